"""Processes that train one child together: the same child, up to the order of sums, and the same bytes each time."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gang_member import CHILDREN, children
from hypothesis import given
from hypothesis import strategies as st

from mutant.gang import Membership, join

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(300)


def together(division: str, names: Sequence[str], devices: int) -> list[dict[str, Any]]:
    """What each of two members says of these children; each member has so many devices."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{held.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "NPROC": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    members = [
        subprocess.Popen(
            [sys.executable, HERE / "gang_member.py", str(rank), "2", coordinator, division, *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=HERE,
            env=environment,
        )
        for rank in range(2)
    ]
    said = [member.communicate(timeout=240) for member in members]
    assert all(member.returncode == 0 for member in members), said
    return [json.loads(out.strip().splitlines()[-1]) for out, _ in said]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return children(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("division", "names", "devices"),
    [("whole", [*CHILDREN], 1), ("sharded", ["deep"], 1), ("sharded", ["head"], 2)],
    ids=["whole", "sharded", "hosts of two"],
)
def test_a_gang_of_two_trains_the_same_child_and_the_same_bytes_each_time(
    division: str, names: Sequence[str], devices: int, alone: dict[str, Any]
) -> None:
    first, other = together(division, names, devices)
    assert first == other
    for name, found in first.items():
        np.testing.assert_allclose(found["validations"], alone[name]["validations"], atol=1.5 / 24, err_msg=name)
        np.testing.assert_allclose(found["sums"], alone[name]["sums"], rtol=1e-4, atol=1e-7, err_msg=name)
    assert together(division, names, devices)[0] == first


def test_a_gang_of_one_trains_to_the_bit_what_a_process_alone_does(alone: dict[str, Any]) -> None:
    assert children(join(Membership(0, 1, ""))) == alone


@given(batch=st.integers(1, 70), size=st.integers(1, 5))
def test_every_example_of_a_step_is_one_members(batch: int, size: int) -> None:
    class Devices:
        pass

    from mutant.gang import Gang

    mesh: Any = Devices()
    mesh.size = size
    columns = [Gang(mesh, rank, size).columns(batch) for rank in range(size)]
    covered = [column for own in columns for column in range(own.start, own.stop)]
    assert covered == [*range(Gang(mesh, 0, size).width(batch))]
    assert 0 <= len(covered) - batch < size
