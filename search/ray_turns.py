"""Which of the workers without a child may begin one: all of them, or those whose turn it is."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from mutant.search.ray_shares import Turns
from mutant.search.ray_team import Member


class Beginning(Protocol):
    """`calls` that have ended are given to `came`; `look` is called about once a second."""

    fills: bool
    """Whether workers may compute while they have no child."""

    @property
    def calls(self) -> Collection[Any]: ...

    def among(self, idle: Sequence[Member], members: Collection[Member], *, wanted: bool) -> Sequence[Member]:
        """Those of `idle` that may begin a child, if any is `wanted`; `members` are all the workers that there are."""
        ...

    def came(self, call: Any) -> None: ...

    def ended(self, member: Member, *, more: bool) -> None:
        """A worker's child has ended; whether there are `more`."""
        ...

    def look(self) -> None: ...

    def rest(self) -> None:
        """Nothing is to be done for the time being."""
        ...

    def close(self) -> None: ...


class AtWill:
    """A run that has its workers for itself."""

    fills = True
    calls: Collection[Any] = ()

    def among(self, idle: Sequence[Member], members: Collection[Member], *, wanted: bool) -> Sequence[Member]:
        return idle

    def came(self, call: Any) -> None:
        pass

    def ended(self, member: Member, *, more: bool) -> None:
        pass

    def look(self) -> None:
        pass

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


class ByTurns:
    """A run of this weight among those that share the cluster. Turns are asked for all workers without a child while
    children wait, each in the worker's own place; without one nothing is computed."""

    fills = False

    def __init__(self, weight: float, unit: str) -> None:
        self._turns: Turns[Member] = Turns(weight, unit)

    @property
    def calls(self) -> Collection[Any]:
        return self._turns.calls

    def among(self, idle: Sequence[Member], members: Collection[Member], *, wanted: bool) -> Sequence[Member]:
        for member in self._turns.whom:
            if member not in members or (member in idle and not wanted):
                self._turns.done(member)
        for member in idle:
            if wanted and member.place is not None:
                self._turns.seek(member, among=[member.place])
        return [member for member in idle if self._turns.held(member)]

    def came(self, call: Any) -> None:
        self._turns.came(call)

    def ended(self, member: Member, *, more: bool) -> None:
        if more and member.place is not None:
            self._turns.pass_on(member, among=[member.place])
        else:
            self._turns.done(member)

    def look(self) -> None:
        self._turns.look()

    def rest(self) -> None:
        self._turns.clear()

    def close(self) -> None:
        self._turns.close()
