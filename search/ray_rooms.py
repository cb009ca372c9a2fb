"""The places of a gang on Ray, all or none: reserved for it, those of a run's turn, or a slice of TPUs."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

from mutant.search.ray_places import at, reserving
from mutant.search.ray_shares import Turns
from mutant.search.ray_start import ray

K = TypeVar("K", bound=Hashable)


class Rooms(ABC, Generic[K]):
    """Gives gangs of one size their places."""

    @abstractmethod
    def seek(self, gang: K) -> Any:
        """Ask for the places of a gang, unless that was done: the call that ends with them."""

    @abstractmethod
    def came(self, gang: K, call: Any) -> bool:
        """Whether the call of `seek`, which has ended, brought the places; else they are to be sought again."""

    @abstractmethod
    def options(self, gang: K, rank: int) -> Mapping[str, Any]:
        """Of the actor of this rank, in its place."""

    @abstractmethod
    def nodes(self, gang: K) -> Collection[str]:
        """The machines of a gang's places, as Ray names them."""

    @abstractmethod
    def wanted(self) -> str:
        """What a gang waits for, and what there is of it, in words."""

    @abstractmethod
    def done(self, gang: K) -> None:
        """Give back what a gang has, or withdraw what was asked for it."""

    def look(self) -> None:
        """Called about once a second."""
        return

    def close(self) -> None:
        """Called last, when no gang has anything."""
        return


class Reserved(Rooms[K]):
    """A placement group each, which Ray reserves in one transaction, with a core for each of a member's `threads`."""

    def __init__(self, size: int, unit: str, threads: int = 1) -> None:
        self._size, self._unit, self._threads = size, unit, threads
        self._groups: dict[K, tuple[Any, Any]] = {}

    def seek(self, gang: K) -> Any:
        if gang not in self._groups:
            place = {self._unit: 1.0, "CPU": float(self._threads)}
            group = ray.util.placement_group([place] * self._size, strategy="PACK")
            self._groups[gang] = group, group.ready()
        return self._groups[gang][1]

    def came(self, gang: K, call: Any) -> bool:
        return True

    def options(self, gang: K, rank: int) -> Mapping[str, Any]:
        return reserving(self._unit, None, self._threads) | in_bundle(self._groups[gang][0], rank)

    def nodes(self, gang: K) -> Collection[str]:
        return nodes_of(self._groups[gang][0])

    def wanted(self) -> str:
        return places_in_words(self._size, self._unit, self._threads)

    def done(self, gang: K) -> None:
        if gang in self._groups:
            remove(self._groups.pop(gang)[0])


class ByTurn(Rooms[K]):
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
        return places_in_words(self._size, self._unit)

    def look(self) -> None:
        self._turns.look()

    def done(self, gang: K) -> None:
        self._turns.done(gang)

    def close(self) -> None:
        self._turns.close()


def places_in_words(size: int, unit: str, threads: int = 1) -> str:
    there = ray.cluster_resources().get(unit, 0)
    if unit == "CPU" and threads > 1:
        return f"{size} free places of {threads} cores each: the Ray cluster has {there:.0f} cores in all"
    return f"{size} free places: the Ray cluster has {there:.0f} in all"


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
