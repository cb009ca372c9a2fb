"""TFDS's slicing language against a second implementation, and against TFDS itself where it is installed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutant.tasks.errors import UserError
from mutant.tasks.slicing import Selection, canonical, select

SIZES = {"train": 1000, "test": 33, "extra": 0}


def taken(instruction: str, sizes: dict[str, int]) -> list[tuple[str, int]]:
    return [(part.split, index) for part in select(instruction, sizes) for index in range(part.start, part.stop)]


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("train", [("train", 0, 1000)]),
        ("train[:90%]", [("train", 0, 900)]),
        ("train[90%:]", [("train", 900, 1000)]),
        ("train[100:200]", [("train", 100, 200)]),
        ("train[-10%:]", [("train", 900, 1000)]),
        ("train[-20:-10]", [("train", 980, 990)]),
        ("train+test", [("train", 0, 1000), ("test", 0, 33)]),
        ("train[:50%] + test[10:]", [("train", 0, 500), ("test", 10, 33)]),
        ("test[:50%]", [("test", 0, 16)]),
        ("test[:33.3%]", [("test", 0, 11)]),
        ("train[200:100]", [("train", 200, 200)]),
        ("training[:1]", [("train", 0, 1)]),
        ("extra", [("extra", 0, 0)]),
    ],
)
def test_selections(instruction, expected):
    assert select(instruction, SIZES) == tuple(Selection(*part) for part in expected)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("", "does not select"),
        ("train[", "does not select"),
        ("train[1]", "does not select"),
        ("train[1:2:3]", "does not select"),
        ("train[:]", "no boundary"),
        ("train[a:b]", "no boundary"),
        ("train[10%:20]", "mixes"),
        ("train[:101%]", "percentage"),
        ("train[:1001]", "beyond the 1,000"),
        ("train[-1001:]", "beyond"),
        ("train[1.5:]", "fraction"),
        ("trian", "no split 'trian'. Nearest: 'train'"),
        ("validation", "no split 'validation'"),
        ("train+", "does not select"),
        ("train[:99999999999999999999]", "no boundary"),
    ],
)
def test_wrong_instructions_say_what_is_wrong(instruction, message):
    with pytest.raises(UserError) as caught:
        select(instruction, SIZES)
    assert message in str(caught.value)


def reference(start: int | None, stop: int | None, percent: bool, size: int) -> range:
    """Python's own slicing of the boundaries, percent by exact arithmetic with halves to even."""

    def place(boundary: int | None) -> int | None:
        if boundary is None or not percent:
            return boundary
        exact = Fraction(boundary * size, 100)
        return round(exact)

    low, high = place(start), place(stop)
    return range(size)[slice(low, high if high != 0 or stop is None or stop >= 0 else size)]


@settings(max_examples=300)
@given(data=st.data(), size=st.integers(0, 5000), percent=st.booleans())
def test_one_part_equals_python_slicing(data, size, percent):
    bound = 100 if percent else size
    boundary = st.none() | st.integers(-bound, bound)
    start, stop = data.draw(boundary), data.draw(boundary)
    if start is None and stop is None:
        return
    unit = "%" if percent else ""
    text = f"train[{'' if start is None else f'{start}{unit}'}:{'' if stop is None else f'{stop}{unit}'}]"
    part = select(text, {"train": size})[0]
    if stop is not None and stop < 0 and percent and round(Fraction(stop * size, 100)) == 0:
        return  # -1% of 10 examples rounds to place 0, in TFDS too
    assert list(range(part.start, part.stop)) == list(reference(start, stop, percent, size))


@given(size=st.integers(1, 3000), cut=st.integers(0, 100))
def test_two_complementary_parts_are_the_whole(size, cut):
    parts = taken(f"train[:{cut}%]", {"train": size}) + taken(f"train[{cut}%:]", {"train": size})
    assert parts == [("train", index) for index in range(size)]


@settings(max_examples=200)
@given(data=st.data(), size=st.integers(1, 3000), percent=st.booleans())
def test_same_as_tfds(data, size, percent):
    splits = pytest.importorskip("tensorflow_datasets.core.splits")
    bound = 100 if percent else size
    unit = "%" if percent else ""
    start, stop = (data.draw(st.none() | st.integers(-bound, bound)) for _ in range(2))
    if start is None and stop is None:
        return
    text = f"train[{'' if start is None else f'{start}{unit}'}:{'' if stop is None else f'{stop}{unit}'}]"
    info = splits.SplitInfo(name="train", shard_lengths=[size], num_bytes=0)
    theirs = splits._rel_to_abs_instr(splits._str_to_relative_instruction(text), {"train": info})
    low, high = theirs.from_ or 0, size if theirs.to is None else theirs.to
    part = select(text, {"train": size})[0]
    assert (part.start, part.stop) == (low, max(low, high))


def test_synonyms():
    assert [canonical(name) for name in ("val", "Valid", "EVAL", "validation")] == ["validation"] * 4
    assert canonical("extra") == "extra"
