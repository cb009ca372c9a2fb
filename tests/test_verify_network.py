"""The whole proof with a real network: train, commit, and verify what another process would read."""

from pathlib import Path as FilePath

import numpy as np
import pytest
import tiny
from storage_samples import sample_info, sample_task
from test_verify import changed, overwrite

from mutant import backend
from mutant.mutation import Clone, InsertAdapter, NewHead
from mutant.network import predict_logits
from mutant.outcome import Trained
from mutant.path import Candidate, Path
from mutant.storage.export import export_task, load_export
from mutant.storage.records import Golden, Planned, SegmentKey
from mutant.storage.store import Store
from mutant.storage.verify import verify

TASK = "stripes"


def commit(store: Store, key: SegmentKey, outcome: Trained) -> Path:
    """The outcome's way into the database and back."""
    path = outcome.path
    assert path.task is not None
    assert path.parent is not None
    candidate = Candidate(path.task, path.parent, path.mutations, seed=1)
    store.plan_generation(key, 0, [Planned(0, candidate, path.hyperparameters, path.probabilities)])
    store.commit_outcome(key, 0, 0, outcome)
    return store.path(path.id)


@pytest.mark.slow
def test_a_trained_path_is_verified_to_the_bit_and_a_changed_one_is_found(tmp_path: FilePath) -> None:
    world = tiny.world(2)
    root_components = list(world.components.values())
    outcome = world.train(world.root, [Clone("norm"), InsertAdapter(1, 8), NewHead(tiny.CLASSES)], task=TASK)
    probe = tiny.stripes().validation.images[:16]
    url = str(tmp_path / "mutant.db")
    with Store.create(url, sample_info(), world.root, root_components) as store:
        store.add_task(sample_task(TASK))
        run = store.begin_run({}, [TASK])
        path = commit(store, run.segments[0].key, outcome)
        assert path == outcome.path
        logits = predict_logits(path, world.components, probe)
        golden = Golden(probe, logits, backend.describe(), backend.versions(), (64, tiny.SIZE, tiny.SIZE, 3))
        store.finish_segment(run.segments[0].key, path.id, golden)
    with Store.open(url, read_only=True) as store:
        report = verify(store, predict_logits, backend=backend.describe())
        assert [t.verdict for t in report.tasks] == ["identical"], report
        assert report.ok
        exported = load_export(export_task(store, TASK, tmp_path / "out"))
        assert np.array_equal(predict_logits(exported.path, exported.components, probe), logits)
    with Store.open(url) as store:
        digest = path.slots["block_00"].digest
        component = store.component(digest)
        overwrite(store, digest, changed(component, next(n for n in component.arrays if n.endswith("kernel"))))
        found = verify(store, predict_logits, backend=backend.describe()).tasks[0]
    assert (found.verdict, found.component) == ("different", "block_00: vit/block (changed)")
    assert found.differing > 0
