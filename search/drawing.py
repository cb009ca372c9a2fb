"""What all drawn pictures share: numbers in few characters, saving."""

# matplotlib's methods take keyword arguments without types.
# pyright: reportUnknownMemberType=false

from pathlib import Path

from matplotlib.figure import Figure

from mutant.tasks.errors import UserError

SUFFIXES = (".png", ".svg", ".pdf")


def count(number: float) -> str:
    """A number of parameters in two or three digits.

    >>> count(896), count(8832), count(13472), count(999_999), count(85_798_656), count(0)
    ('896', '8.8 k', '13 k', '1.0 M', '86 M', '0')
    """
    power = 0
    while round(number / 1000**power) >= 1000 and power < 3:
        power += 1
    scaled = number / 1000**power
    return f"{scaled:.{int(power > 0 and scaled < 9.95)}f} {('', 'k', 'M', 'G')[power]}".rstrip()


def percent(share: float | None) -> str:
    """
    >>> percent(0.9709), percent(None)
    ('97.1%', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}%"


def checked(file: Path) -> Path:
    """The same file, if a picture can be written there; raises `UserError` before anything is drawn."""
    if file.suffix.lower() not in SUFFIXES:
        named = f"'{file.name}' ends in '{file.suffix}'" if file.suffix else f"'{file.name}' has no suffix"
        raise UserError(
            f"A picture is written as {', '.join(SUFFIXES)}: {named}.", hint=f"Nearest: '{file.with_suffix('.png')}'."
        )
    if not file.parent.is_dir():
        raise UserError(f"There is no directory '{file.parent}' to write '{file.name}' in.", hint="Make it first.")
    if file.is_dir():
        raise UserError(f"'{file}' is a directory.", hint="Name a file in it.")
    return file


def save(figure: Figure, file: Path, *, dpi: float = 160) -> Path:
    """Write a figure in the format of the file's suffix; equal figures give equal bytes."""
    import matplotlib

    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None}}
    try:
        with matplotlib.rc_context({"svg.hashsalt": "mutant", "svg.fonttype": "path"}):
            figure.savefig(file, dpi=dpi, facecolor="white", metadata=metadata[file.suffix.lower()])
    except OSError as error:
        raise UserError(f"Cannot write '{file}': {error.strerror or error}.") from error
    return file
