"""Where workers run: one to an accelerator where there are any. None is needed here: Ray believes what it is told."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import ray
from several import cluster

from mutant import backend
from mutant.search.ray_evaluator import RayEvaluator
from mutant.search.ray_places import Place, at, places, reserving, unit
from mutant.search.workers import Terms, choose_workers


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_take_the_clusters_accelerators() -> None:
    with cluster() as own:
        node = own.add(cores=8, num_gpus=2)
        own.add(cores=4)
        evaluator = RayEvaluator(None, terms=Terms(own.address))
        try:
            there = [about.node for about in evaluator.abouts.values()]
            assert there == [node] * 2, "none on the machine without"
            assert ray.available_resources().get("GPU", 0) == 0
            assert unit(local=False) == "GPU"
            assert [reserving("GPU", workers)["num_gpus"] for workers in (None, 1, 2, 3, 4, 5)] == [
                1, 1, 1, 1 / 2, 1 / 2, 1 / 3
            ]  # fmt: skip
            assert places("GPU") == [Place(node, 0), Place(node, 1)]
            shared = at(Place(node, 1), "GPU")
            assert shared["num_cpus"] == 0, "who takes turns reserves nothing"
            assert shared["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == "1"
        finally:
            evaluator.close()


def test_a_tpu_is_a_resource_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutant.search.ray_places.ray.cluster_resources", lambda: {"CPU": 8.0, "TPU": 4.0})
    assert unit(local=False) == "TPU"
    assert unit(local=True) == "CPU", "JAX here has no plugin for it"
    assert reserving("TPU", None)["resources"] == {"TPU": 1}
    assert Place.parse(str(Place("abc", 3))) == Place("abc", 3)


def test_auto_takes_a_worker_for_each_accelerator_that_jax_can_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert backend.accelerators() == 0
    devices = ["nvidia0", "nvidia1", "nvidia2", "nvidiactl"]
    for name in devices:
        (tmp_path / name).touch()
    monkeypatch.setattr(backend, "Path", lambda text: tmp_path if text == "/dev" else Path(text))
    assert backend.accelerators() == 0, "a GPU without JAX's plugin"
    for name in ("jax_cuda12_plugin", "libtpu"):
        module = ModuleType(name)
        module.__spec__ = pytest.__spec__
        monkeypatch.setitem(sys.modules, name, module)
    assert backend.accelerators() == 3
    assert choose_workers("auto", 1e9).workers == 3
    assert choose_workers("auto", 1e9, gang=2).workers == 2
    assert choose_workers("5", 1e9).workers == 5
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert backend.accelerators() == 1
    assert "accelerator" in choose_workers("auto", 1e15).reason
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_workers("auto", 1e9).workers == 1
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert backend.accelerators() == 0
