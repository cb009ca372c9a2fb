"""On the data pack beside the repository, from the real root: adding a folder beats a head on the frozen root.

Sketches are far from the root's photographs, so that the margin is many times what 784 test images can tell apart; on
textures, for one, it is within the noise, and differs from machine to machine.
"""

import json
from pathlib import Path

import pytest
from cli_calls import done

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_adding_a_folder_ends_above_its_head_only_baseline(shared_data: Path, tmp_path: Path) -> None:
    db = tmp_path / "m.db"
    try:
        done("init", "--root", "efficientnet-lite0", "--db", db)
    except AssertionError as error:
        pytest.skip(f"the root cannot be had here: {error}")
    folder = f"folder:{shared_data / 'pacs_sketch.zip'}"
    (summary,) = json.loads(done("add", folder, "--children", 8, "--validations", 2, "--db", db, "--json").out)
    assert summary["test_accuracy"] > summary["head_only_test_accuracy"]
