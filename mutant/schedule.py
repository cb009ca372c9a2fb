"""Learning-rate schedules as arrays, so that another schedule or rate recompiles nothing."""

from typing import Any

import numpy as np

from mutant.hyperparameters import Hyperparameters

Rates = np.ndarray[Any, np.dtype[np.float32]]


def learning_rates(hyperparameters: Hyperparameters, steps: int, cycles: int) -> Rates:
    """Learning rate of each of `steps` steps, float32 [steps].

    Warm-up runs linearly from a hundredth of the peak to the peak, lr, over `warmup_ratio` of the steps. `constant`
    has a peak of lr/2 and holds it (the same sum of rates as a cosine), `cosine` falls to 0 along half a cosine,
    `linear` falls to 0 in a line, and `restarts` repeats warm-up and cosine in each of `cycles` equal cycles, one per
    validation (arXiv 2205.10937, appendix).
    """
    if hyperparameters.schedule == "restarts":
        bounds = np.linspace(0, steps, max(1, min(cycles, steps)) + 1).round().astype(int)
        return np.concatenate([_cycle(hyperparameters, int(n)) for n in np.diff(bounds)])
    return _cycle(hyperparameters, steps)


def _cycle(hyperparameters: Hyperparameters, steps: int) -> Rates:
    peak = (
        hyperparameters.learning_rate / 2 if hyperparameters.schedule == "constant" else hyperparameters.learning_rate
    )
    warmup = round(hyperparameters.warmup_ratio * steps)
    step = np.arange(steps)
    rising = peak / 100 + (peak - peak / 100) * step / max(1, warmup)
    share = np.clip((step - warmup) / max(1, steps - warmup), 0, 1)
    match hyperparameters.schedule:
        case "constant":
            falling = np.full(steps, peak)
        case "linear":
            falling = peak * (1 - share)
        case _:
            falling = peak * 0.5 * (1 + np.cos(np.pi * share))
    return np.where(step < warmup, rising, falling).astype(np.float32)
