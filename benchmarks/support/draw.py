"""Draw docs/speed.png from what benchmarks printed: a file of their last lines, one JSON object a line.

    .venv/bin/python benchmarks/support/draw.py RESULTS.jsonl [docs/speed.png]

`make bench | grep '^{' > RESULTS.jsonl` writes such a file. Panels: a training step above k frozen blocks against the
cost model, the step against PyTorch, a segment with the cache and without.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, OTHER, MODEL = "#0f766e", "#94a3b8", "#d97706"


def cached_step(axes: Any, found: dict[str, Any]) -> None:
    by_k = found["by_frozen_blocks"]
    ks = [int(k) for k in by_k]
    for name, colour in (("of_full", OURS), ("of_recomputed", OTHER)):
        words = "all blocks trained" if name == "of_full" else "frozen, but run every step"
        axes.plot(ks, [by_k[str(k)][name] for k in ks], "o-", color=colour, label=f"{words} / cached")
        axes.plot(ks, [by_k[str(k)][f"{name}_predicted"] for k in ks], "_", color=MODEL, ms=14, mew=2)
    axes.plot([], [], "_", color=MODEL, ms=14, mew=2, label="cost model")
    axes.set(yscale="log", xlabel="frozen blocks of 12, activations cached", ylabel="times faster", xticks=ks)
    axes.set_title("A step of ViT-Ti, 65 tokens")
    axes.legend(frameon=False)


def step(axes: Any, found: dict[str, Any]) -> None:
    shapes = found["shapes"]
    names = [name.partition(" (")[0].replace("efficientnet-", "") for name in shapes]
    axes.barh(names, shapes.values(), color=OURS)
    axes.axvline(1, color=OTHER)
    axes.invert_yaxis()
    axes.set(xlabel="PyTorch's best time / ours, one core")
    axes.set_title("The training step against PyTorch")


def segment(axes: Any, found: dict[str, Any]) -> None:
    axes.bar(["without", "with cache"], [found["ratio"], 1], color=[OTHER, OURS])
    axes.axhline(found["bound"], color=MODEL, ls="--", label=f"what the FLOPs allow: {found['bound']}")
    axes.set(ylabel="time of a segment, with cache = 1")
    axes.set_title(f"{found['children']} children of the default preset")
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.02, 0.9))


PANELS = {"cached_step": cached_step, "step": step, "segment": segment}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    found = {one["name"]: one for one in map(json.loads, lines)}
    drawn = [name for name in PANELS if name in found]
    figure, axes = plt.subplots(1, len(drawn), figsize=(5.2 * len(drawn), 4.2), squeeze=False)
    for name, place in zip(drawn, axes[0], strict=True):
        place.spines[["top", "right"]].set_visible(False)
        PANELS[name](place, found[name])
    figure.tight_layout()
    figure.savefig(sys.argv[2] if len(sys.argv) > 2 else "docs/speed.png", dpi=110)


if __name__ == "__main__":
    main()
