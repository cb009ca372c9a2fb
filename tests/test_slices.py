"""Slices of TPUs on a real Ray cluster whose machines say that they have some: whole, in rank order, given back."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from several import Cluster, cluster
from shelves import Shelf, works
from tiny import stripes, world

from mutant.outcome import Trained
from mutant.search.ray_gangs import GangEvaluator
from mutant.search.ray_slices import OnSlices, Shape, fitting, whole_slices
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
                env_vars={"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
                labels={f"ray.io/tpu-{key}": value for key, value in labels.items()},
            )
        )
    return added


@pytest.fixture(scope="module")
def pod() -> Iterator[tuple[Cluster, dict[str, list[str]]]]:
    """Two slices, whose machines show JAX two devices each."""
    with cluster() as found:
        yield found, {name: add_slice(found, name) for name in ("one", "other")}


@ray.remote
class Member:
    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def devices(self) -> int:
        import jax

        return jax.local_device_count()


def reserved(rooms: OnSlices[str], gang: str) -> None:
    """Wait until a gang has its slice, as its evaluator does."""
    call: Any = rooms.seek(gang)
    while not (ray.wait([call], timeout=0.5)[0] and rooms.came(gang, call)):
        rooms.look()
        call = rooms.seek(gang)


def asked(rooms: OnSlices[str], gang: str, what: str) -> list[Any]:
    """What the members of a gang say, by rank."""
    remote: Any = Member
    members = [remote.options(**rooms.options(gang, rank)).remote() for rank in range(V4.hosts)]
    found: list[Any] = ray.get([getattr(member, what).remote() for member in members], timeout=120)
    for member in members:
        ray.kill(member)
    return found


def test_gangs_get_a_whole_slice_each_by_rank_and_the_third_waits(pod: tuple[Cluster, dict[str, list[str]]]) -> None:
    machines, slices = pod
    ray.init(address=machines.address, log_to_driver=False)
    try:
        assert whole_slices() == {"one": V4, "other": V4}
        rooms: OnSlices[str] = OnSlices(fitting(whole_slices().values(), 2))
        for gang in "ab":
            reserved(rooms, gang)
        first, second = asked(rooms, "a", "node"), asked(rooms, "b", "node")
        assert sorted([first, second]) == sorted(slices.values()), "whole, and rank by rank as the hosts count"
        assert {*rooms.nodes("a")} == {*first}
        assert asked(rooms, "a", "devices") == [2, 2]
        waiting = rooms.seek("c")
        assert not ray.wait([waiting], timeout=2)[0]
        assert rooms.wanted() == "a free TPU slice v4-16 (2x2x2, 2 hosts): the Ray cluster has 2 whole ones in all"
        rooms.done("b")
        reserved(rooms, "c")
        assert {*rooms.nodes("c")} == {*second}
        for gang in "ac":
            rooms.done(gang)
    finally:
        ray.shutdown()


def test_a_gang_leaves_a_slice_that_others_hold_for_one_that_is_free(pod: tuple[Cluster, dict[str, list[str]]]) -> None:
    """Another run has a chip of the slice that comes first."""
    machines, slices = pod
    ray.init(address=machines.address, log_to_driver=False)
    remote: Any = Member
    try:
        where = NodeAffinitySchedulingStrategy(slices["one"][1], soft=False)
        other = remote.options(num_cpus=0, resources={"TPU": 1}, scheduling_strategy=where).remote()
        assert ray.get(other.node.remote()) == slices["one"][1]
        rooms: OnSlices[str] = OnSlices(V4)
        reserved(rooms, "a")
        assert {*rooms.nodes("a")} == {*slices["other"]}
        rooms.done("a")
    finally:
        ray.shutdown()


def test_a_gang_of_hosts_with_several_devices_trains_the_same_bytes_each_time(
    pod: tuple[Cluster, dict[str, list[str]]],
) -> None:
    here = world(2)
    evaluator = GangEvaluator(None, Gangs(2), terms=Terms(pod[0].address))
    free: list[float] = []

    def begun(*_: object) -> None:
        free.append(ray.available_resources().get("TPU", 0.0))

    try:
        found = [dict(evaluator.train(works(here, [(), ()]), Shelf(here, stripes()), begun)) for _ in range(2)]
    finally:
        evaluator.close()
    first, second = (
        {index: outcome.path.parts for index, outcome in each.items() if isinstance(outcome, Trained)} for each in found
    )
    assert first == second
    assert {*first} == {0, 1}
    assert max(free) <= 8, "of 16 chips a gang has eight before it begins"


def test_a_gang_that_is_no_slice_is_told_what_there_is(pod: tuple[Cluster, dict[str, list[str]]]) -> None:
    with pytest.raises(UserError, match=r"none here has 3: the cluster has v4-16 \(2x2x2, 2 hosts\)") as told:
        GangEvaluator(None, Gangs(3), terms=Terms(pod[0].address))
    assert told.value.hint is not None
    assert told.value.hint.endswith("mutant abandon, then --gang 2")
    with pytest.raises(UserError, match="a gang on TPUs takes a whole slice"):
        GangEvaluator(None, Gangs(2), terms=Terms(pod[0].address, share=1.0))
    assert not ray.is_initialized()


def test_a_slice_that_lost_a_host_is_none(pod: tuple[Cluster, dict[str, list[str]]]) -> None:
    """The last test here, since the host does not come back."""
    machines, slices = pod
    ray.init(address=machines.address, log_to_driver=False)
    try:
        rooms: OnSlices[str] = OnSlices(V4)
        machines.kill(slices["one"][1])
        reserved(rooms, "a")
        assert {*rooms.nodes("a")} == {*slices["other"]}
        assert whole_slices() == {"other": V4}
        rooms.done("a")
    finally:
        ray.shutdown()
