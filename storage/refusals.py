"""The errors that say more than that a database could not be used."""

from mutant.tasks.errors import UserError


class Conflict(UserError):
    """What was to be written contradicts what is written already, or itself."""


class Collected(UserError):
    """Weights that were asked for are gone by intention: `mutant gc` dropped them."""


class Damaged(UserError):
    """The database's content cannot be what was written."""


class BlobDamaged(Damaged):
    """Weights in the blob store, by their digest, that cannot be what was written: `reason` is `missing` or `torn`."""

    def __init__(self, message: str, *, hint: str | None = None, digest: str, reason: str = "missing") -> None:
        super().__init__(message, hint=hint)
        self.digest, self.reason = digest, reason


class Full(UserError):
    """The disk has no space left for what was to be written."""


class Held(Conflict):
    """Another process has the system's lease."""


class Superseded(Conflict):
    """This process had the lease, and another has taken it over."""


class Late(Conflict):
    """The outcome of a candidate that is leased anew, or whose outcome is known, by now."""


def damaged(name: str, detail: str) -> Damaged:
    return Damaged(f"The database '{name}' is damaged ({detail}).", hint="Restore it from a copy; then: mutant verify")
