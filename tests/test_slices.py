"""Slices of TPUs on a real Ray cluster whose machines say that they have some: whole, in rank order, given back."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from several import Cluster, cluster
from shelves import Shelf, works
from tiny import stripes, world

from mutant.outcome import Trained
from mutant.search.ray_gangs import GangEvaluator
from mutant.search.ray_slices import OnSlices, Shape, fitting, shapes
from mutant.search.workers import Gangs, Terms
from mutant.tasks.errors import UserError

V4 = Shape(2, "2x2x2", "v4-16", 4)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def add_slice(cluster: Cluster, name: str, hosts: int = 2) -> list[str]:
    """The machines of a v4-16: two hosts of four chips each, of which the first one stands for the slice."""
    added: list[str] = []
    for host in range(hosts):
        labels = {"slice-name": name, "worker-id": str(host), "topology": "2x2x2", "pod-type": "v4-16"}
        first = {"TPU-v4-16-head": 1} if host == 0 else {}
        added.append(
            cluster.add(
                cores=1,
                resources={"TPU": 4, **first},
                labels={f"ray.io/tpu-{key}": value for key, value in labels.items()},
            )
        )
    return added


@pytest.fixture(scope="module")
def pod() -> Iterator[tuple[Cluster, dict[str, list[str]]]]:
    """Two slices, whose machines show JAX two devices each."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    try:
        with cluster() as found:
            yield found, {name: add_slice(found, name) for name in ("one", "other")}
    finally:
        del os.environ["XLA_FLAGS"]


@ray.remote
class Where:
    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


def placed(rooms: OnSlices[str], gang: str) -> list[str]:
    """The machines of a gang's members by rank, once it has its slice."""
    call: Any = rooms.seek(gang)
    while True:
        ray.get(call, timeout=60)
        if rooms.came(gang, call):
            break
        call = rooms.seek(gang)
    remote: Any = Where
    members = [remote.options(**rooms.options(gang, rank)).remote() for rank in range(V4.hosts)]
    found: list[str] = ray.get([member.node.remote() for member in members], timeout=60)
    for member in members:
        ray.kill(member)
    return found


def test_gangs_get_a_whole_slice_each_by_rank_and_the_third_waits(pod: tuple[Cluster, dict[str, list[str]]]) -> None:
    machines, slices = pod
    ray.init(address=machines.address, log_to_driver=False)
    try:
        assert shapes() == [V4]
        rooms: OnSlices[str] = OnSlices(fitting(shapes(), 2))
        first, second = placed(rooms, "a"), placed(rooms, "b")
        assert sorted([first, second]) == sorted(slices.values()), "whole, and rank by rank as the hosts count"
        assert {*rooms.nodes("a")} == {*first}
        waiting = rooms.seek("c")
        assert not ray.wait([waiting], timeout=2)[0]
        rooms.done("a")
        ray.get(waiting, timeout=60)
        assert not rooms.came("c", waiting)
        ray.get(rooms.seek("c"), timeout=60)
        assert {*rooms.nodes("c")} == {*first}
        for gang in ("b", "c"):
            rooms.done(gang)
    finally:
        ray.shutdown()


def test_a_gang_of_hosts_with_several_devices_trains_the_same_bytes_each_time(
    pod: tuple[Cluster, dict[str, list[str]]],
) -> None:
    here = world(2)
    evaluator = GangEvaluator(None, Gangs(2), terms=Terms(pod[0].address))
    try:
        found = [dict(evaluator.train(works(here, [(), ()]), Shelf(here, stripes()))) for _ in range(2)]
    finally:
        evaluator.close()
    first, second = (
        {index: outcome.path.parts for index, outcome in each.items() if isinstance(outcome, Trained)} for each in found
    )
    assert first == second
    assert {*first} == {0, 1}


def test_a_gang_that_is_no_slice_is_told_what_there_is(pod: tuple[Cluster, dict[str, list[str]]]) -> None:
    with pytest.raises(UserError, match=r"none here has 3 hosts: the cluster has v4-16 \(2x2x2, 2 hosts\)") as told:
        GangEvaluator(None, Gangs(3), terms=Terms(pod[0].address))
    ray.shutdown()
    assert told.value.hint is not None
    assert told.value.hint.endswith("mutant abandon, then --gang 2")
    with pytest.raises(UserError, match="a gang on TPUs takes a whole slice"):
        GangEvaluator(None, Gangs(2), terms=Terms(pod[0].address, share=1.0))
    ray.shutdown()
