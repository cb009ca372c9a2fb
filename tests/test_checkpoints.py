"""Readers of weight files: right numbers from good files, clear errors from bad and hostile ones."""

import io
import os
import pickle  # noqa: TID251 - only to write a hostile file
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import npz_bytes, torch_bytes, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mutant.checkpoints import read_checkpoint
from mutant.tasks.errors import MissingExtra, UserError

RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "a.weight": RNG.standard_normal((3, 4)).astype(np.float32),
    "a.bias": RNG.standard_normal(3).astype(np.float16),
    "steps": np.array(7, np.int64),
    "empty": np.zeros((0, 2), np.float32),
}


def safetensors_bytes() -> bytes:
    from safetensors.numpy import save

    return save(ARRAYS)


def onnx_bytes() -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["y"]),
        helper.make_node("Add", ["b.bias", "y"], ["z"]),
    ]
    weights = [numpy_helper.from_array(a, name) for name, a in {**ARRAYS, "b.bias": np.ones(4, np.float32)}.items()]
    weights.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "onnx::MatMul_1"))
    graph = helper.make_graph(nodes, "g", [], [], weights)
    return helper.make_model(graph).SerializeToString()


MAKERS: dict[str, Callable[[], bytes]] = {
    "safetensors": safetensors_bytes,
    "npz": lambda: npz_bytes(ARRAYS),
    "pth": lambda: torch_bytes(ARRAYS, legacy=True),
    "pt": lambda: torch_bytes(ARRAYS, legacy=False),
    "onnx": onnx_bytes,
}


@pytest.mark.parametrize("suffix", MAKERS)
def test_reads_every_format(suffix: str, tmp_path: Path) -> None:
    read = read_checkpoint(write(tmp_path / f"w.{suffix}", MAKERS[suffix]()))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_format_is_told_by_content_not_by_suffix(tmp_path: Path) -> None:
    for suffix in ("safetensors", "npz", "pth", "pt"):
        assert set(read_checkpoint(write(tmp_path / "weights.bin", MAKERS[suffix]()))) == set(ARRAYS)


def test_names_anonymous_onnx_matrices_after_their_bias(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_checkpoint(write(tmp_path / "w.onnx", onnx_bytes()))["b.kernel"], np.eye(4))


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    from safetensors.numpy import save_file

    save_file({"x": np.array([1.5, -2], ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    read = read_checkpoint(tmp_path / "w.safetensors")["x"]
    assert read.dtype == np.float32
    assert read.tolist() == [1.5, -2]


def test_without_onnx_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "w.onnx", b"anything")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"mutant\[onnx\]"):
        read_checkpoint(path)


class Evil:
    """Unpickling this would run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [True, False])
def test_an_evil_object_is_named_and_not_run(legacy: bool, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = write(tmp_path / "w.pt", torch_bytes(ARRAYS, legacy=legacy, extra=Evil(f"touch {trap}")))
    with pytest.raises(UserError, match="system"):
        read_checkpoint(path)
    assert not trap.exists()


def test_a_plain_pickle_is_no_checkpoint(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for protocol in (2, 4, 5):
        path = write(tmp_path / "w.pth", pickle.dumps(Evil(f"touch {trap}"), protocol))
        with pytest.raises(UserError):
            read_checkpoint(path)
    assert not trap.exists()


def test_pickled_objects_in_npz_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w.npz", npz_bytes({"x": np.array([Evil("false")], object)}))
    with pytest.raises(UserError, match="only numbers"):
        read_checkpoint(path)


def npy(shape: tuple[int, ...], data: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize("shape", [(10**9, 10**6), (3,), (2**62, 4), (-1,), (-2, -2)])
def test_an_oversized_npz_shape_allocates_nothing(shape: tuple[int, ...], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("x.npy", npy(shape, bytes(16)))
    with pytest.raises(UserError, match="claims the shape"):
        read_checkpoint(tmp_path / "w.npz")


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy((2**25,), bytes(2**27)))
    with pytest.raises(UserError, match="too much for its size"):
        read_checkpoint(tmp_path / "w.npz")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    data = torch_bytes({"x": np.zeros(200, np.float32)}, legacy=True)
    grown = data.replace(b"K\xc8\x85q", b"M\xc9\x00\x85q", 1)  # shape (200,) becomes (201,)
    assert grown != data
    with pytest.raises(UserError, match="more values than its storage"):
        read_checkpoint(write(tmp_path / "w.pth", grown))


def test_an_oversized_safetensors_header_is_refused(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    path = write(tmp_path / "w.safetensors", struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(UserError, match="not a sound safetensors"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"hello, world: not weights", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_other_files_are_no_weights(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights file"):
        read_checkpoint(write(tmp_path / "w.bin", content))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(UserError, match="Cannot read"):
            read_checkpoint(path)


@pytest.mark.parametrize("suffix", MAKERS)
def test_every_truncation_is_a_clear_error(suffix: str, tmp_path: Path) -> None:
    data = MAKERS[suffix]()
    for length in range(0, len(data) - 1, max(1, len(data) // 60)):
        try:
            read_checkpoint(write(tmp_path / f"w.{suffix}", data[:length]))
        except UserError:
            continue
        assert suffix == "onnx", f"{length} of {len(data)} bytes were taken for whole"


@pytest.mark.parametrize("suffix", MAKERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_give_arrays_or_a_clear_error(suffix: str, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(MAKERS[suffix]())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    try:
        arrays = read_checkpoint(write(tmp_path / f"w.{suffix}", bytes(content)))
    except UserError as error:
        assert str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) < 10**6
