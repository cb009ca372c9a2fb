"""Errors that are for people: what went wrong, with what value, the nearest right thing, the next command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input or a bad surrounding, told to the person at the terminal without a traceback.

    >>> print(UserError("No task 'cifra10'.", hint="Nearest: 'cifar10'. See: mutant tasks"))
    No task 'cifra10'. Nearest: 'cifar10'. See: mutant tasks
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} {self.hint}"


class Unknown(UserError):
    """A name or an id that nothing has."""


class MissingExtra(UserError):
    """A package that belongs to an extra is not installed."""


def missing_extra(package: str, extra: str) -> MissingExtra:
    """The error for `package` not being importable, naming the extra that brings it.

    >>> print(missing_extra("scikit-learn", "samples"))
    The package 'scikit-learn' is not installed. Install it with: pip install 'mutant[samples]'
    """
    return MissingExtra(
        f"The package '{package}' is not installed.", hint=f"Install it with: pip install 'mutant[{extra}]'"
    )


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word` (case ignored), or None when none is like it.

    >>> nearest("cifra10", ["cifar10", "mnist"])
    'cifar10'
    """
    by_folded = {choice.casefold(): choice for choice in sorted(choices)}
    found = difflib.get_close_matches(word.casefold(), sorted(by_folded), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def unknown(kind: str, word: str, choices: Iterable[str], *, see: str | None = None) -> Unknown:
    """The error for a `word` that is none of `choices`: names the nearest, else lists them.

    >>> print(unknown("option", "lable", ["image", "label"]))
    Unknown option 'lable'. Nearest: 'label'.
    """
    listed = sorted(choices)
    best = nearest(word, listed)
    hint = f"Nearest: '{best}'." if best is not None else f"Known: {', '.join(listed) or 'none'}."
    return Unknown(f"Unknown {kind} '{word}'.", hint=hint if see is None else f"{hint} See: {see}")


def printable(text: str) -> str:
    """`text` fit for a terminal and a database: what cannot be shown or encoded becomes `?`.

    >>> printable("a\\x1b[31m.png")
    'a?[31m.png'
    """
    return "".join(character if character.isprintable() else "?" for character in text)
