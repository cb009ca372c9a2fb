"""The training step of a suffix against PyTorch: same shapes, weights, data and optimizer, one thread each, one run.

    .venv/bin/python -m pip install torch==2.13.0     (not a dependency; the benchmark says so when it is missing)
    taskset -c 0 .venv/bin/python benchmarks/step_torch.py [--repeats 3] [--only NAME]

About 15 minutes of one core (an estimate), much of it PyTorch's compiler (`--eager` leaves it out). 1.01 to 1.64 at
nine shapes with the compiler; 1.07 to 1.58 at seven, geometric mean 1.24, with --eager (docs/step.md).

SGD with momentum 0.9, the gradient clipped to norm 1, cross-entropy, batch 32, float32. PyTorch runs eagerly and
through torch.compile, convolutions in both memory layouts; its best time counts. Losses and clipped gradients of the
first step are compared before anything is timed. Time is CPU time of the process, so that neighbours disturb little;
contenders take turns, the best of the repeats counts.
"""

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from support.training_program import with_worker_environment

GOAL, SECONDS, TOLERANCE, ROUNDING = 1.0, 1.0, 1e-2, 1e-6
INSTALL = "PyTorch is not installed, so nothing is compared. Install it with: python -m pip install torch==2.13.0"

Step = Callable[[int], None]
"""Runs so many steps and waits for them."""


def main() -> None:
    arguments = _arguments()
    if importlib.util.find_spec("torch") is None:
        print(INSTALL)
        return
    with_worker_environment()
    from support.suffixes import suffixes

    ratios: dict[str, float] = {}
    for suffix in suffixes():
        if arguments.only and arguments.only not in suffix.name:
            continue
        times = _measure(suffix, arguments.repeats, compiled=not arguments.eager)
        ours = min(times["mutant"])
        theirs = min(min(values) for name, values in times.items() if name != "mutant")
        ratios[suffix.name] = theirs / ours
        described = ", ".join(f"{n} {1e3 * min(v):.2f} (+{max(v) / min(v) - 1:.0%})" for n, v in times.items())
        print(f"{suffix.name}: {theirs / ours:.2f}; ms per step {described}", flush=True)
    mean = math.exp(sum(math.log(ratio) for ratio in ratios.values()) / len(ratios))
    shapes = {name: round(ratio, 2) for name, ratio in ratios.items()}
    result = {"name": "step", "ratio": round(mean, 2), "goal": GOAL, "baseline": "PyTorch, eager or compiled"}
    print(json.dumps({**result, "shapes": shapes}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="shapes whose name holds this")
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out")
    return parser.parse_args()


def _measure(suffix: Any, repeats: int, *, compiled: bool) -> dict[str, list[float]]:
    """Seconds per step of every contender, one per repeat."""
    from support.training_program import TrainingProgram

    program = TrainingProgram(suffix)
    contenders: dict[str, Step] = {"mutant": program.run}
    contenders |= dict(theirs(suffix, program.first_step(), compiled=compiled))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for step in contenders.values():
        step(2)
    steps = program.steps_in(SECONDS)
    for _ in range(repeats):
        for name, step in contenders.items():
            started = time.process_time()
            step(steps)
            times[name].append((time.process_time() - started) / steps)
    return times


def theirs(suffix: Any, first: Any, *, compiled: bool) -> Iterator[tuple[str, Step]]:
    ways = ("eager", "compiled") if compiled else ("eager",)
    layouts = ("", " channels last") if suffix.x.ndim == 4 else ("",)
    for way in ways:
        for layout in layouts:
            step = _torch_step(suffix, first, compiled=way == "compiled", channels_last=bool(layout))
            yield f"torch {way}{layout}", step


def _torch_step(suffix: Any, first: Any, *, compiled: bool, channels_last: bool) -> Step:
    import numpy as np
    from support.suffixes import BATCH, EXAMPLES
    from support.torch_layers import forward, from_torch, functional, to_torch, torch

    torch.set_num_threads(1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    kinds = [spec.kind for spec in suffix.specs]
    values, parts = [], []
    for i, kind in enumerate(kinds):
        trained = to_torch(kind, suffix.trained(i))
        trained = {n: _laid_out(a, layout).requires_grad_() for n, a in trained.items()}
        values.append(trained)
        parts.append({**{n: _laid_out(a, layout) for n, a in to_torch(kind, suffix.fixed(i)).items()}, **trained})
    x, y = torch.from_numpy(suffix.x), torch.from_numpy(suffix.y).long()
    if x.ndim == 4:
        x = _laid_out(x.permute(0, 3, 1, 2).contiguous(), layout)
    trainable = [value for part in values for value in part.values()]
    optimizer = torch.optim.SGD(trainable, lr=1e-3, momentum=0.9, fused=True)

    def loss_of(batch: Any, labels: Any) -> Any:
        return functional.cross_entropy(forward(suffix.specs, parts, batch), labels)

    torch.compiler.reset()  # else it gives up, silently, after eight shapes of one function
    loss = torch.compile(loss_of) if compiled else loss_of
    rows = torch.arange(EXAMPLES).reshape(-1, BATCH)

    def gradient(number: int) -> Any:
        now = rows[number % len(rows)]
        optimizer.zero_grad(set_to_none=True)
        value = loss(x[now], y[now])
        value.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0, foreach=True)
        return value

    def run(count: int) -> None:
        for number in range(count):
            gradient(number)
            optimizer.step()

    ours_loss, ours_gradient = first
    theirs_loss = gradient(0).item()
    assert math.isclose(ours_loss, theirs_loss, rel_tol=1e-4), (suffix.name, ours_loss, theirs_loss)
    for kind, slot, part, mine in zip(kinds, suffix.slots, values, ours_gradient, strict=True):
        for name, value in part.items():
            mine_norm = np.linalg.norm(np.asarray(mine[name]))
            error = np.linalg.norm(from_torch(kind, name, value.grad) - np.asarray(mine[name]))
            assert error <= TOLERANCE * mine_norm + ROUNDING, (suffix.name, slot, name, error / mine_norm)
    return run


def _laid_out(tensor: Any, layout: Any) -> Any:
    return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor


if __name__ == "__main__":
    main()
