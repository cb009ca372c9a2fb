"""A whole segment of the default preset with the cache of activations and without it, and what it spends time on.

    .venv/bin/python benchmarks/segment.py [--children 12] [--repeats 2] [--reach K]

About seven minutes with two pairs; 5.8, 6.1 and 6.2 (`taskset -c 0`), where the FLOPs allow 7.5: one of the 12 children
trains six blocks, which is half of the segment with the cache.

Without: the same programs, but the frozen prefix is run for every example of every visit and validation, as the
published code does. A rehearsal compiles everything first; then the two take turns. Winners, scores and the digest of
the whole database must be equal. Ratios are of processor time, which neighbours disturb little. `bound` is the ratio
that the counted FLOPs allow: a step is counted as three forwards of the suffix, so that with everything below the cut
free no cache can give more. The line `control` is about the share of the segment outside of device programs; `waiting`
is that in which the device waited for data.
"""

import argparse
import json
import statistics

from support.segments import Grown, grow

import mutant
from mutant.activations.limits import OFF, CacheLimits
from mutant.search.config import Settings
from mutant.search.presets import DEFAULT, PRESETS

GOAL = 5.0
MOST_OUTSIDE = 0.05
TASK = "sample:letters"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=12)
    parser.add_argument("--reach", type=int, help="another than the preset's")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    task, limits = mutant.load_task(TASK), CacheLimits()
    settings = Settings(children=options.children, reach=options.reach)
    rehearsal = grow(task, settings, limits)
    print(f"rehearsal: {rehearsal.seconds:.1f} s, {rehearsal.effort.compilations} programs compiled", flush=True)
    found: dict[str, list[Grown]] = {"with": [], "without": []}
    for _ in range(options.repeats):
        for name, cache in (("with", limits), ("without", OFF)):
            found[name].append(grow(task, settings, cache))
            one = found[name][-1]
            took = f"{one.seconds:6.1f} s, device {one.effort.device_seconds:.1f} s, processor {one.cpu_seconds:.1f} s"
            print(f"{name:8} {took}", flush=True)
    every = [rehearsal, *found["with"], *found["without"]]
    same = {(one.winner, one.score, one.meaning) for one in every}
    assert len(same) == 1, "the cache must not change anything"
    ratios = [a.cpu_seconds / b.cpu_seconds for a, b in zip(found["without"], found["with"], strict=True)]
    best = min(found["with"], key=lambda one: one.seconds)
    outside = 1 - (best.effort.device_seconds + best.answer_seconds) / best.seconds
    control = {"name": "control", "ratio": round(MOST_OUTSIDE / outside, 2), "goal": 1.0, "share": round(outside, 3)}
    print(json.dumps({**control, "baseline": f"{MOST_OUTSIDE:.0%} of the segment outside of device programs"}))
    result = {
        "name": "segment",
        "ratio": round(statistics.median(ratios), 2),
        "goal": GOAL,
        "baseline": "the same segment with the frozen prefix computed again for every example",
        "ratios": [round(ratio, 2) for ratio in ratios],
        "bound": round(1 + best.prefix_flops / best.effort.flops, 2),
        "waiting": round(best.effort.wait_seconds / best.seconds, 3),
        "held_mib": round(best.held_bytes / 2**20, 1),
        "compiled_in_rehearsal": rehearsal.effort.compilations,
        "children": options.children,
        "reach": options.reach or PRESETS[DEFAULT].rules.reach,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
