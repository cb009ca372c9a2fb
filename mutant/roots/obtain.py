"""A root's weights file: from the caller, from the cache, or from its sources in order; its digest always checked."""

from dataclasses import dataclass
from pathlib import Path

from mutant.roots.cache import cached, file_digest, keep, remember, remembered, workspace
from mutant.roots.fetch import FetchError, fetch
from mutant.roots.info import RootInfo, Source
from mutant.tasks.errors import UserError


@dataclass(frozen=True)
class Weights:
    """A weights file that is here, its digest, where it came from, and the family's converter (None: to be tried)."""

    path: Path
    sha256: str
    source: str
    converter: str | None


@dataclass(frozen=True)
class Trust:
    """What the caller knows of a file: its digest, or that the first download is to be believed."""

    sha256: str | None = None
    first_use: bool = False


def obtain(info: RootInfo, directory: Path, trust: Trust) -> Weights:
    """The first source that can be had, cached copies first; `UserError` with all that was tried if none can."""
    for source in info.sources:
        found = _from_cache(source, directory, trust)
        if found is not None:
            return found
    failures: list[str] = []
    for source in info.sources:
        try:
            return _from_source(source, directory, trust)
        except FetchError as error:
            failures.append(f"{source.place}: {error}")
    tried = "".join(f"\n  - {failure}" for failure in failures)
    raise UserError(
        f"The pretrained weights of root '{info.name}' could not be had. Tried the cache {directory}, and{tried}\n",
        hint=f"Fetch one of these where there is a network and name the file with --file, choose another root "
        f"(mutant roots), or train from random weights on purpose: --root random:{info.name}.",
    )


def from_file(info: RootInfo, file: Path, trust: Trust) -> Weights:
    """The caller's own file; its digest is checked against `trust` if that has one, else reported only."""
    if not file.is_file():
        raise UserError(f"No weights file {file} for root '{info.name}'.")
    sha256 = file_digest(file)
    if trust.sha256 is not None and sha256 != trust.sha256.lower():
        raise UserError(f"{file} has the SHA-256 {sha256}, not {trust.sha256}.")
    return Weights(file, sha256, f"file {file}", None)


def _expected(source: Source, directory: Path, trust: Trust) -> str | None:
    return source.sha256 or (trust.sha256 and trust.sha256.lower()) or remembered(directory, str(source.place))


def _from_cache(source: Source, directory: Path, trust: Trust) -> Weights | None:
    sha256 = _expected(source, directory, trust)
    path = cached(directory, sha256, source.file_name) if sha256 else None
    return Weights(path, sha256, str(source.place), source.converter) if path and sha256 else None


def _from_source(source: Source, directory: Path, trust: Trust) -> Weights:
    expected = _expected(source, directory, trust)
    with workspace(directory) as empty:
        path, stated = fetch(source.place, empty)
        sha256 = file_digest(path)
        wanted = expected or stated
        if wanted is None and not trust.first_use:
            raise FetchError(
                f"no SHA-256 is known for it. The file fetched has {sha256}: "
                f"give that with --sha256 if you know it to be right, or --trust-first-use"
            )
        if wanted is not None and sha256 != wanted:
            raise FetchError(f"its SHA-256 is {sha256}, expected {wanted}; it was thrown away")
        kept = keep(directory, path, sha256, source.file_name)
    remember(directory, str(source.place), sha256)
    return Weights(kept, sha256, str(source.place), source.converter)
