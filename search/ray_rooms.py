"""The places of a gang on Ray, all or none: reserved for it, those of a run's turn, or a slice of TPUs."""

from collections.abc import Collection, Hashable, Mapping
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from mutant.search.ray_places import at, reserving
from mutant.search.ray_shares import Turns
from mutant.search.ray_start import ray

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)


class Rooms(Protocol[K_contra]):
    """Gives gangs of one size their places. What `seek` returned is given to `came` when it has ended; `look` is called
    about once a second."""

    def seek(self, gang: K_contra) -> Any:
        """Ask for the places of a gang: the call that ends with them, or with a step on the way."""
        ...

    def came(self, gang: K_contra, call: Any) -> bool:
        """Whether a call that has ended brought the places; else they are to be sought again."""
        ...

    def options(self, gang: K_contra, rank: int) -> Mapping[str, Any]:
        """Of the actor of this rank, in its place."""
        ...

    def nodes(self, gang: K_contra) -> Collection[str]:
        """The machines of a gang's places, as Ray names them."""
        ...

    def wanted(self) -> str:
        """What a gang waits for, and what there is of it, in words."""
        ...

    def look(self) -> None: ...

    def done(self, gang: K_contra) -> None:
        """Give back what a gang has, or withdraw what was asked for it."""
        ...

    def close(self) -> None: ...


class Reserved(Generic[K]):
    """A placement group each, which Ray reserves in one transaction."""

    def __init__(self, size: int, unit: str) -> None:
        self._size, self._unit = size, unit
        self._groups: dict[K, Any] = {}

    def seek(self, gang: K) -> Any:
        bundles = [{"CPU": 1.0, self._unit: 1.0}] * self._size
        self._groups[gang] = ray.util.placement_group(bundles, strategy="PACK")
        return self._groups[gang].ready()

    def came(self, gang: K, call: Any) -> bool:
        return True

    def options(self, gang: K, rank: int) -> Mapping[str, Any]:
        return reserving(self._unit, None) | in_bundle(self._groups[gang], rank)

    def nodes(self, gang: K) -> Collection[str]:
        return nodes_of(self._groups[gang])

    def wanted(self) -> str:
        return free_places(self._size, self._unit)

    def look(self) -> None:
        pass

    def done(self, gang: K) -> None:
        if gang in self._groups:
            remove(self._groups.pop(gang))

    def close(self) -> None:
        pass


class ByTurn(Generic[K]):
    """The places of a turn of a run of this weight, among those that share the cluster."""

    def __init__(self, size: int, unit: str, weight: float) -> None:
        self._size, self._unit = size, unit
        self._turns: Turns[K] = Turns(weight, unit)

    def seek(self, gang: K) -> Any:
        return self._turns.seek(gang, size=self._size)

    def came(self, gang: K, call: Any) -> bool:
        return self._turns.came(call)

    def options(self, gang: K, rank: int) -> Mapping[str, Any]:
        return at(self._turns.held(gang)[rank], self._unit)

    def nodes(self, gang: K) -> Collection[str]:
        return {place.node for place in self._turns.held(gang)}

    def wanted(self) -> str:
        return free_places(self._size, self._unit)

    def look(self) -> None:
        self._turns.look()

    def done(self, gang: K) -> None:
        self._turns.done(gang)

    def close(self) -> None:
        self._turns.close()


def free_places(size: int, unit: str) -> str:
    return f"{size} free places: the Ray cluster has {ray.cluster_resources().get(unit, 0):.0f} in all"


def in_bundle(group: Any, rank: int) -> dict[str, Any]:
    """Options of an actor in this place of a placement group."""
    return {"scheduling_strategy": ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, rank)}


def nodes_of(group: Any) -> Collection[str]:
    """The machines of a placement group's places."""
    found: Mapping[Any, str] = ray.util.placement_group_table(group).get("bundles_to_node_id", {})
    return {*found.values()}


def remove(group: Any) -> None:
    """Give a placement group back, if Ray still knows it."""
    with suppress(ray.exceptions.RayError, ValueError):
        ray.util.remove_placement_group(group)
