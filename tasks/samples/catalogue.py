"""The samples by name: what each is and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mutant.tasks.errors import UserError, unknown
from mutant.tasks.raw import RawTask
from mutant.tasks.samples import alphabets, tables, textures
from mutant.tasks.samples.info import SampleInfo
from mutant.tasks.samples.packages import installed

_READERS: Mapping[str, Callable[[], RawTask]] = {
    "digits": tables.read_digits,
    "mnist5k": tables.read_mnist5k,
    "faces": tables.read_faces,
    "textures": textures.read_textures,
}


def catalogue() -> tuple[SampleInfo, ...]:
    """All samples, in order of their names; reads no data."""
    infos = (tables.DIGITS, tables.MNIST5K, tables.FACES, textures.INFO, *alphabets.INFOS)
    return tuple(sorted(infos, key=lambda info: info.name))


def is_available(info: SampleInfo) -> bool:
    """Whether all packages that carry the sample are installed."""
    return all(installed(module) for module, _ in info.packages)


def read_sample(name: str, size: str | None) -> RawTask:
    """The sample's data; `size` is for alphabets. Raises UserError, MissingExtra when a package is not installed."""
    if name in alphabets.ALPHABETS:
        if size is not None and not (size.isascii() and size.isdigit() and len(size) < 5):
            raise UserError(f"size={size} is no number of pixels.", hint="Write for example ?size=64")
        return alphabets.read_alphabet(name, alphabets.DEFAULT_SIZE if size is None else int(size))
    if name not in _READERS:
        raise unknown("sample", name, (info.name for info in catalogue()), see="mutant tasks")
    if size is not None:
        raise UserError(f"sample:{name} has one size only.", hint="Leave out ?size=")
    return _READERS[name]()
