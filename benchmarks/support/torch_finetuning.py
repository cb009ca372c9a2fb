"""Fine-tuning of a chain of components in PyTorch, as its users write the loop. PyTorch is imported by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from support.torch_layers import forward, to_torch, torch

from mutant.component import Arrays, Spec, is_buffer

ASKED = 256
"""Images of one batch of inference."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Images uint8 [n, S, S, 3] and labels int32 [n]."""

    images: np.ndarray[Any, np.dtype[np.uint8]]
    labels: np.ndarray[Any, np.dtype[np.int32]]

    def __len__(self) -> int:
        return len(self.labels)


def fine_tune(
    specs: Sequence[Spec],
    arrays: Sequence[Arrays],
    splits: Mapping[str, Examples],
    classes: int,
    *,
    rates: np.ndarray[Any, np.dtype[np.float32]],
    visit: int,
    batch: int,
    seed: int,
) -> float:
    """Test accuracy after SGD over `visit` examples for each row of `rates` [validations, steps], the best row's.

    Examples are drawn without replacement until all have been seen. The head begins from zeros.
    """
    torch.manual_seed(seed)
    parts = [to_torch(spec.kind, part) for spec, part in zip(specs, arrays, strict=True)]
    width = specs[-1]["features"]
    head = {"kernel": torch.zeros(classes, width), "bias": torch.zeros(classes)}
    chain = [*specs, Spec.of("head", features_in=width, classes=classes)]
    parts = [*parts, head]
    trained = [value.requires_grad_() for part in parts for name, value in part.items() if not is_buffer(name)]
    optimizer = torch.optim.SGD(trained, lr=1.0, momentum=0.9)
    train = splits["train"]
    order = _orders(len(train), np.random.default_rng(seed))
    best, kept = -1.0, [value.detach().clone() for value in trained]
    for row in rates:
        rows = np.concatenate([next(order) for _ in range(-(-visit // len(train)))])[:visit]
        for step, rate in enumerate(row):
            taken = rows[step * batch : (step + 1) * batch]
            logits = forward(chain, parts, torch.from_numpy(train.images[taken]))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(train.labels[taken]).long())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            optimizer.step()
        if (accuracy := _accuracy(chain, parts, splits["validation"])) > best:
            best, kept = accuracy, [value.detach().clone() for value in trained]
    with torch.no_grad():
        for value, good in zip(trained, kept, strict=True):
            value.copy_(good)
    return _accuracy(chain, parts, splits["test"])


def _orders(n: int, rng: np.random.Generator) -> Any:
    """Permutations of n examples without end."""
    while True:
        yield rng.permutation(n)


def _accuracy(chain: Sequence[Spec], parts: Sequence[Mapping[str, Any]], examples: Examples) -> float:
    right = 0
    with torch.no_grad():
        for start in range(0, len(examples), ASKED):
            logits = forward(chain, parts, torch.from_numpy(np.array(examples.images[start : start + ASKED])))
            right += int((logits.argmax(1).numpy() == examples.labels[start : start + ASKED]).sum())
    return right / len(examples)
