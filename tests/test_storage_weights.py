"""Arrays in and out of the database, to the bit."""

from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from mutant.component import Spec, content_digest
from mutant.storage.faults import DECODING
from mutant.storage.weights import decode, encode

DTYPES = st.sampled_from(["float32", "float16", "float64", "uint8", "int8", "int32", "int64", "uint64", "bool"])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda n: n != "__metadata__")
ARRAYS = st.dictionaries(
    NAMES, DTYPES.flatmap(lambda d: arrays_of.arrays(d, arrays_of.array_shapes(min_dims=0, min_side=0)))
)
SPEC = Spec.of("any")


@given(ARRAYS)
def test_every_array_comes_back_to_the_bit(arrays: dict[str, np.ndarray]) -> None:
    back = decode(encode(arrays))
    assert content_digest(SPEC, back) == content_digest(SPEC, arrays)
    assert not any(array.flags.writeable for array in back.values())


def test_bfloat16_comes_back() -> None:
    trace = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3).astype(ml_dtypes.bfloat16)}
    back = decode(encode(trace))
    assert back["kernel"].dtype == trace["kernel"].dtype
    assert content_digest(SPEC, back) == content_digest(SPEC, trace)


def test_equal_arrays_are_equal_bytes_whatever_their_order() -> None:
    a, b = np.ones((2, 3), np.float32), np.zeros(4, np.float32)
    assert encode({"a": a, "b": b}) == encode({"b": b, "a": np.asfortranarray(a)})


@pytest.mark.parametrize("dtype", [">f4", "complex64", "datetime64[s]", "U3", "O"])
def test_types_that_would_change_are_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="cannot be stored"):
        encode({"a": np.zeros(2, dtype)})


GOOD = encode({"kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.zeros(4, np.float32)})


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.integers(0, len(GOOD)))
def test_damaged_bytes_raise_what_reading_expects(at: int, by: int, keep: int) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= by
    for data in (bytes(damaged), GOOD[:keep]):
        with suppress(*DECODING):
            decode(data)
