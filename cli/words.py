"""Numbers, times and names as people read and write them."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from mutant.tasks.errors import UserError, printable

UNKNOWN = "–"
"""Stands where nothing was measured."""
_FLOPS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
_BYTES = {"": 1, "b": 1} | {
    unit + end: base**power
    for power, unit in enumerate(("k", "m", "g", "t"), start=1)
    for end, base in (("b", 1000), ("ib", 1024))
}
MOST_BYTES = 2**60
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)\s*([a-z]*)")


def count(number: float | None) -> str:
    """A count with three significant digits.

    >>> [count(n) for n in (999, 444_864, 1_484_162, 2.2e9)]
    ['999', '445 k', '1.48 M', '2.20 G']
    """
    if number is None:
        return UNKNOWN
    size = abs(number)
    for limit, factor, unit in ((999.5, 1, ""), (999.5e3, 1e3, " k"), (999.5e6, 1e6, " M")):
        if size < limit:
            return _three_digits(number / factor, whole=factor == 1) + unit
    return _three_digits(number / 1e9, whole=False) + " G"


def _three_digits(value: float, *, whole: bool) -> str:
    if whole:
        return f"{value:.0f}"
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """
    >>> percent(0.98251)
    '98.3%'
    """
    return UNKNOWN if share is None else f"{100 * share:.1f}%"


def points(share: float | None) -> str:
    """A difference of two shares in percentage points.

    >>> points(0.0239)
    '+2.4'
    """
    return UNKNOWN if share is None else f"{100 * share:+.1f}"


def flops(number: float | None) -> str:
    """Counted floating-point operations.

    >>> flops(2.5e15), flops(7e8)
    ('2.50 PFLOPs', '700 MFLOPs')
    """
    if number is None:
        return UNKNOWN
    factor, unit = next(((f, u) for f, u in _FLOPS if abs(number) >= 0.9995 * f), (1e3, "k"))
    return f"{_three_digits(number / factor, whole=abs(number / factor) >= 99.95)} {unit}FLOPs"


def amount(value: float, unit: str) -> str:
    """An amount of what a budget is given in.

    >>> amount(40, "children"), amount(75, "device-seconds"), amount(2e15, "flops"), amount(600, "seconds")
    ('40 children', '1 min 15 s on the device', '2.00 PFLOPs', '10 min 0 s')
    """
    match unit:
        case "children":
            return plural(int(value), "child", "children")
        case "flops":
            return flops(value)
        case "device-seconds":
            return f"{duration(value)} on the device"
        case _:
            return duration(value)


def duration(seconds: float | None) -> str:
    """
    >>> [duration(s) for s in (0.042, 3.21, 75, 7300)]
    ['0.0 s', '3.2 s', '1 min 15 s', '2 h 1 min']
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def parse_size(text: str, *, option: str) -> int:
    """Bytes in `512MiB`, `2GiB`, `1.5 GB` or a plain number. Raises UserError, naming the option, for anything else.

    >>> [parse_size(text, option="--cache-disk") for text in ("0", "2KiB", "1.5 kb", "7")]
    [0, 2048, 1500, 7]
    """
    found = _SIZE.fullmatch(text.strip().lower())
    bytes_per_unit = _BYTES.get(found[2]) if found else None
    if found is None or bytes_per_unit is None or float(found[1]) * bytes_per_unit > MOST_BYTES:
        hint = "Write for example 512MiB, 2GiB, or 0 for nothing."
        raise UserError(f"{option} must be a size in bytes, not '{printable(text)}'.", hint=hint)
    return int(float(found[1]) * bytes_per_unit)


def short(digest: str | None) -> str:
    """The first ten digits of an id or fingerprint; commands take any part of it that is long enough to be unique."""
    return UNKNOWN if not digest else digest[:10]


def moment(time: datetime | None) -> str:
    """A time of day where the reader is."""
    return UNKNOWN if time is None else f"{time.astimezone():%Y-%m-%d %H:%M}"


def plural(number: int, word: str, words: str | None = None) -> str:
    """
    >>> plural(1, "child", "children"), plural(2_000, "task")
    ('1 child', '2,000 tasks')
    """
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def listed(items: Iterable[str], *, most: int = 5) -> str:
    """
    >>> listed("abcdefg", most=3)
    'a, b, c and 4 more'
    """
    shown = [printable(item) for item in items]
    rest = len(shown) - most
    return ", ".join(shown) if rest <= 0 else f"{', '.join(shown[:most])} and {rest} more"


def first_few(items: Sequence[str], *, most: int = 12) -> str:
    """
    >>> first_few("abcd", most=3)
    'a, b, c, ...'
    """
    return ", ".join(printable(item) for item in items[:most]) + (", ..." if len(items) > most else "")
