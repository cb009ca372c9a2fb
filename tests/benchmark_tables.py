"""The tables of docs/benchmarks.md, from the results that are kept beside the reports.

After new results: python tests/benchmark_tables.py writes them into the page.
"""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from mutant.search.bench.summary import MethodSummary, summarize
from mutant.storage.results import CellResult, Results

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
HEADER = (
    "method", "repeats", "test accuracy", "points from `evolution`", "accounted parameters per task", "device time",
    "processor time",
)  # fmt: skip


def kept() -> list[Path]:
    """The results under docs/."""
    return sorted(DOCS.glob("benchmarks/*/results.db"))


def cells_of(results: Path) -> tuple[CellResult, ...]:
    """What is in a results database, which is not touched."""
    with tempfile.TemporaryDirectory() as directory:
        opened = Results.open(Path(shutil.copy(results, directory)))
        try:
            return tuple(opened.cells())
        finally:
            opened.close()


def table_of(cells: Sequence[CellResult]) -> str:
    """A row for every method, the best first."""
    rows = [HEADER, ["---"] * len(HEADER), *(_row(one, cells) for one in summarize(cells))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def begin_of(results: Path) -> str:
    return f"<!-- table: {results.parent.name} -->\n"


def written(page: str, results: Path) -> str:
    """The page with the table of these results in its place."""
    table = f"{begin_of(results)}{table_of(cells_of(results))}\n<!-- end -->"
    return re.sub(rf"{re.escape(begin_of(results))}.*?<!-- end -->", lambda _: table, page, flags=re.DOTALL)


def _row(one: MethodSummary, cells: Sequence[CellResult]) -> Sequence[str]:
    spread = "" if one.accuracy.deviation is None else f" ± {100 * one.accuracy.deviation:.1f}"
    processor = "–" if one.processor_seconds is None else f"{one.processor_seconds.mean:,.0f} s"
    return (
        f"`{one.name}`",
        str(one.repeats),
        f"{100 * one.accuracy.mean:.1f}%{spread}",
        _points(one.name, cells),
        f"{one.accounted.mean / 1e6:.2f} M",
        f"{one.device_seconds.mean:,.0f} s",
        processor,
    )


def _points(name: str, cells: Sequence[CellResult]) -> str:
    """The average over the repeats that both have."""
    accuracy = {(cell.method, cell.repeat): fmean(task.test_accuracy for task in cell.tasks) for cell in cells}
    differences = [
        100 * (reached - accuracy["evolution", repeat])
        for (method, repeat), reached in accuracy.items()
        if method == name and ("evolution", repeat) in accuracy
    ]
    return "–" if name == "evolution" or not differences else f"{fmean(differences):+.1f}"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    for file in kept():
        page = written(page, file)
    PAGE.write_text(page, encoding="utf-8")
