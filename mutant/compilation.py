"""How many programs XLA compiled, and how long it took: heard from JAX itself."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from mutant.typed import xla


@dataclass
class Compiled:
    """Programs compiled (those out of the persistent cache are not), and seconds spent on getting programs at all."""

    programs: int = 0
    seconds: float = 0.0


@contextmanager
def counting(heard: Callable[[float], None] = lambda seconds: None) -> Generator[Compiled]:
    """Count what this process compiles while the block lasts, in any thread; `heard` hears of it as it ends."""
    found = Compiled()

    def took(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith(("backend_compile_duration", "jaxpr_trace_duration", "jaxpr_to_mlir_module_duration")):
            found.seconds += duration_secs
            heard(duration_secs)
        if event.endswith("backend_compile_duration"):
            found.programs += 1

    def happened(event: str, **_: str | int) -> None:
        if event.endswith("compilation_cache/cache_hits"):
            found.programs -= 1

    xla.monitoring.register_event_duration_secs_listener(took)
    xla.monitoring.register_event_listener(happened)
    try:
        yield found
    finally:
        xla.monitoring.unregister_event_duration_listener(took)
        xla.monitoring.unregister_event_listener(happened)
