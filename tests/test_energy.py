"""Energy of the processor's packages: counters that begin again, and what segments of a run drew."""

from pathlib import Path
from typing import Any

import pytest
from growing import SMALL, go_on, small_store, small_tasks

from mutant.search import energy
from mutant.search.energy import Meter, SegmentMeter
from mutant.search.growth import begin
from mutant.search.progress import SegmentFinished, SegmentStarted
from mutant.serving.views.tasks import tasks_view
from mutant.storage.records import ENERGY


def test_energy_is_read_where_the_machine_tells_it(tmp_path: Path) -> None:
    def write(zone: str, **values: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        for name, value in values.items():
            (tmp_path / zone / name).write_text(f"{value}\n", encoding="ascii")

    assert Meter.read(tmp_path) is None
    write("intel-rapl:0", energy_uj=900, max_energy_range_uj=1000)
    write("intel-rapl:0:0", energy_uj=5, max_energy_range_uj=1000)  # part of the package
    write("intel-rapl:1", energy_uj=10, max_energy_range_uj=1000)
    before = Meter.read(tmp_path)
    write("intel-rapl:0", energy_uj=100)  # it began again
    write("intel-rapl:1", energy_uj=30)
    after = Meter.read(tmp_path)
    assert before is not None
    assert after is not None
    assert after.joules_since(before) == pytest.approx((200 + 20) / 1e6)
    write("intel-rapl:1", energy_uj=0)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("?", encoding="ascii")
    assert Meter.read(tmp_path) is None


@pytest.fixture
def zone(tmp_path: Path) -> Path:
    """A machine's meter at zero joules."""
    (tmp_path / "meter" / "intel-rapl:0").mkdir(parents=True)
    (tmp_path / "meter" / "intel-rapl:0" / "max_energy_range_uj").write_text("1000000000")
    (tmp_path / "meter" / "intel-rapl:0" / "energy_uj").write_text("0")
    return tmp_path / "meter" / "intel-rapl:0" / "energy_uj"


def test_a_run_records_what_its_segments_drew_and_the_page_adds_it_up(
    zone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each child takes a joule; the first segment is interrupted and resumed."""
    tasks, spent = small_tasks(tmp_path), list[Any]()
    monkeypatch.setattr(energy, "POWERCAP", zone.parents[1])

    def draw(event: Any) -> None:
        if type(event).__name__ == "ChildFinished":
            spent.append(event)
            zone.write_text(str(1_000_000 * len(spent)))
            if len(spent) == 1:
                raise KeyboardInterrupt

    with small_store(tmp_path / "m.db") as store:
        begin(store, tuple(tasks), SMALL, new=[task.task for task in tasks.values()])
        with pytest.raises(KeyboardInterrupt):
            go_on(store, tasks, listener=draw)
        go_on(store, tasks, listener=draw)
        drawn = [task.energy_joules or 0.0 for task in tasks_view(store).tasks]
        events = store.events(kind=ENERGY)
    assert sum(drawn) == pytest.approx(len(spent))
    assert len(events) == len(tasks) + 1
    assert min(drawn) > 0


def test_nothing_is_recorded_where_workers_are_elsewhere_or_there_is_no_meter(zone: Path, tmp_path: Path) -> None:
    with small_store(tmp_path / "m.db") as store:
        for meter in (
            SegmentMeter(store, 1, here=False, folder=zone.parents[1]),
            SegmentMeter(store, 1, folder=tmp_path / "none"),
        ):
            meter.hear(SegmentStarted("low", 0, 1, 4, 0))
            meter.hear(SegmentFinished("low", None))
            meter.close()
        assert not store.events(kind=ENERGY)
        assert not tasks_view(store).tasks
