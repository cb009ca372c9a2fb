"""The one place that decides how XLA runs here: one thread per process unless a run has more, so that training is
reproducible to the bit.

XLA splits the sums of a gradient by the number of its threads, so their last bits depend on it; forward passes do not.
Every process therefore computes with as many threads as its run has, and several workers use several cores.
"""

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

THREADS = "NPROC"
HUGE_PAGES = "glibc.malloc.hugetlb=1"
_EVEN_PRODUCTS = {"xla_cpu_experimental_ynn_fusion_type": ""}


def prepare() -> None:
    """Set what must be set before JAX starts; harmless when it runs already."""
    if "jax" not in sys.modules:
        os.environ.setdefault(THREADS, "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def may_compute_with(threads: int) -> bool:
    """Whether this process could compute with so many XLA threads: a JAX that runs keeps what it has."""
    return not _is_running() or os.environ.get(THREADS) == str(threads)


def compute_with(threads: int) -> bool:
    """Let this process compute with so many XLA threads, if it may; whether it does."""
    if not may_compute_with(threads):
        return False
    os.environ[THREADS] = str(threads)
    return True


def _is_running() -> bool:
    """Whether JAX has started its back end: no thread can be added any more."""
    if "jax" not in sys.modules:
        return False
    from mutant.typed import xla_bridge

    return bool(xla_bridge.backends_are_initialized())


def worker_environment(threads: int = 1) -> dict[str, str]:
    """Environment of a worker: its XLA threads, huge pages for XLA's temporary buffers (a quarter faster)."""
    tunables = os.environ.get("GLIBC_TUNABLES")
    return {
        THREADS: str(threads),
        "GLIBC_TUNABLES": f"{tunables}:{HUGE_PAGES}" if tunables and HUGE_PAGES not in tunables else HUGE_PAGES,
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def compute_at_once() -> None:
    """Let CPU programs run in the thread that calls them, before JAX has started: what asks one row at a time waits a
    sixth less. Training does not want it: it prepares the next chunk while one runs."""
    from mutant.typed import xla

    xla.config.update("jax_cpu_enable_async_dispatch", False)


def cache_directory() -> Path:
    """Where compiled programs and downloaded weights are kept: `MUTANT_CACHE`, else the user's cache directory."""
    if "MUTANT_CACHE" in os.environ:
        return Path(os.environ["MUTANT_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mutant"


def keep_compiled_programs() -> None:
    """Turn on JAX's persistent compilation cache, shared by all processes of the user."""
    from mutant.typed import xla

    if xla.config.jax_compilation_cache_dir is None:
        directory = cache_directory() / "xla"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        xla.config.update("jax_compilation_cache_dir", str(directory))
        xla.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)


@lru_cache(maxsize=1)
def inference_options() -> Mapping[str, str]:
    """Compiler options of inference programs: products whose rows do not depend on how many rows there are.

    XLA's CPU back end gives small products to a library that sums them in another order than large ones, so that an
    image's bits would depend on its batch. Without it they agree from two rows on, and a batch is no slower. Empty on
    other back ends, and where this version of XLA does not know the option.
    """
    from mutant.typed import xla

    if xla.default_backend() != "cpu":
        return {}
    try:
        xla.jit(abs, compiler_options=dict(_EVEN_PRODUCTS))(0)
    except Exception:  # whatever an XLA without this option raises
        return {}
    return _EVEN_PRODUCTS


def describe() -> str:
    """The back end whose bits an output belongs to: `cpu x86_64 AMD EPYC 26/2 avx512f, 1 thread(s), even products`."""
    from mutant.typed import xla

    device = xla.devices()[0]
    kind = processor() if device.platform == "cpu" else device.device_kind
    flags = os.environ.get("XLA_FLAGS", "").strip()
    even = ", even products" if inference_options() else ""
    return f"{device.platform} {kind}, {os.environ.get(THREADS, 'all')} thread(s){even}{', ' + flags if flags else ''}"


def accelerator() -> str | None:
    """The type of this process's accelerator, as JAX names it; None where it computes on the CPU."""
    from mutant.typed import xla

    device = xla.devices()[0]
    return None if device.platform == "cpu" else device.device_kind


def accelerators() -> int:
    """How many accelerators of this machine JAX could use, without starting it; 0 where it computes on the CPU.

    JAX's plugin for them must be installed, the system must show the devices, and the environment must not hide them.
    """
    platforms = [name for name in os.environ.get("JAX_PLATFORMS", "").split(",") if name]
    if platforms and platforms[0] == "cpu":
        return 0
    if any(find_spec(f"jax_cuda{version}_plugin") is not None for version in (12, 13)):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        there = len([*Path("/dev").glob("nvidia[0-9]*")])
        return there if visible is None else min(there, len([name for name in visible.split(",") if name.strip()]))
    if find_spec("libtpu") is not None:
        return len([*Path("/dev").glob("accel[0-9]*")]) or len([*Path("/dev/vfio").glob("[0-9]*")])
    return 0


def device() -> str:
    """The kind of the device that computes here: `cpu`, or a platform with its model, as `gpu NVIDIA A100`."""
    from mutant.typed import xla

    found = xla.devices()[0]
    return found.platform if found.device_kind == found.platform else f"{found.platform} {found.device_kind}"


def processor() -> str:
    """The processor that XLA compiles for: architecture, model, family and the widest vectors, as far as known."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    vectors = next((name for name in ("avx512f", "avx2", "avx", "asimd") if name in facts.get("flags", "").split()), "")
    model = f"{facts.get('cpu family', '')}/{facts.get('model', '')}".strip("/")
    return " ".join(word for word in (platform.machine(), facts.get("model name", ""), model, vectors) if word)


def versions() -> dict[str, str]:
    """Versions of what decides the last bit of an output."""
    from importlib.metadata import version

    return {package: version(package) for package in ("jax", "jaxlib", "flax", "numpy")}
