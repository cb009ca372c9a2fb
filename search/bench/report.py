"""The report of a benchmark, as Markdown and as one HTML file, with its pictures."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from mutant.search.bench.summary import Comparison, MethodSummary, Spread, compared, summarize
from mutant.search.drawing import count
from mutant.search.presets import PRESETS
from mutant.search.suites.suite import suites
from mutant.storage.results import CellResult
from mutant.tasks.errors import UserError, missing_extra

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def write_report(cells: Sequence[CellResult], settings: Mapping[str, str], directory: Path) -> tuple[Path, ...]:
    """Write report.md, report.html and the pictures beside them; the files. Equal results give equal bytes.

    Raises `UserError` when there is nothing to report, `MissingExtra` without matplotlib.
    """
    if not cells:
        raise UserError("No method is finished yet, so there is nothing to report.")
    try:
        from mutant.search.bench.drawing import draw_sizes, draw_tasks
    except ImportError:
        raise missing_extra("matplotlib", "plot") from None
    from mutant.search.drawing import save

    methods = summarize(cells)
    title = f"Benchmark {settings.get('suite', '')}"
    curve = scale_curve(methods)
    others = [one for one in methods if one.group != "scale" or one not in curve] or methods
    pictures = [save(draw_sizes(f"{title}: accuracy against size", others), directory / "sizes.svg")]
    if curve:
        pictures.append(save(draw_sizes(f"{title}: scale control", curve), directory / "scale.svg"))
    pictures.append(save(draw_tasks(f"{title}: task by task", methods, shown(methods)), directory / "tasks.svg"))
    markdown, page = directory / "report.md", directory / "report.html"
    _write(markdown, as_markdown(title, methods, settings, cells))
    _write(page, as_html(title, methods, settings, pictures, cells))
    return markdown, page, *pictures


def scale_curve(methods: Sequence[MethodSummary]) -> list[MethodSummary]:
    """What is drawn of scale control: the search by scale factor, with the baselines; nothing for fewer than two."""
    if sum(one.group == "scale" for one in methods) < 2:
        return []
    return [one for one in methods if one.group in ("scale", "baseline", "witness")]


def shown(methods: Sequence[MethodSummary]) -> list[str]:
    """The methods whose tasks are drawn: the searches, and of the others the best of each kind; the best of all, where
    it has neither."""
    searches = [one.name for one in methods if one.group == "search"]
    best = [next((one.name for one in methods if one.group == group), None) for group in ("baseline", "witness")]
    full = [one.name for one in methods if one.name in ("full", "head")]
    chosen = [*searches, *(name for name in best if name is not None), *full]
    return list(dict.fromkeys(chosen or [methods[0].name]))


def comparisons(methods: Sequence[MethodSummary]) -> list[Comparison]:
    """Every search, and every ablation, against the best baseline."""
    groups = ("search", "ablation", "scale")
    return [found for one in methods if one.group in groups and (found := compared(methods, one.name)) is not None]


def sentence(found: Comparison) -> str:
    """A comparison in words."""
    more, saved = ("more" if found.points >= 0 else "less"), found.parameters_saved
    size = f"{abs(100 * saved):.0f}% {'fewer' if saved >= 0 else 'more'} accounted parameters per task"
    return (
        f"{found.search} against {found.baseline}, the best baseline: {abs(found.points):.2f} points {more} average "
        f"accuracy, {size}, {found.device_time:.2f} of its device time; better on {found.wins} of {found.tasks} tasks."
    )


def overview(methods: Sequence[MethodSummary]) -> Table:
    """A row for every method."""
    header = (
        "method", "kind", "repeats", "test accuracy", "parameters per task", "all parameters", "FLOPs per image",
        "device time", "processor time", "training FLOPs", "children", "energy",
    )  # fmt: skip
    rows = [
        (
            one.name,
            one.group,
            str(one.repeats),
            accuracy(one.accuracy),
            count(one.accounted.mean),
            count(one.total_parameters.mean),
            f"{one.flops.mean / 1e6:,.0f} M",
            f"{one.device_seconds.mean:,.0f} s",
            "–" if one.processor_seconds is None else f"{one.processor_seconds.mean:,.0f} s",
            f"{one.training_flops.mean / 1e12:,.1f} T",
            f"{one.children.mean:,.0f}",
            "–" if one.energy is None else f"{one.energy.mean / 1000:,.1f} kJ",
        )
        for one in methods
    ]
    return header, rows


def by_task(methods: Sequence[MethodSummary]) -> Table:
    """A row for every task, a column for every method."""
    tasks = dict.fromkeys(task for one in methods for task in one.by_task)
    rows = [(task, *(accuracy(one.by_task[task]) if task in one.by_task else "–" for one in methods)) for task in tasks]
    return ("task", *(one.name for one in methods)), rows


def accuracy(spread: Spread) -> str:
    """
    >>> accuracy(Spread(0.8123, 0.01)), accuracy(Spread(0.5))
    ('81.23 ± 1.00', '50.00')
    """
    mean = f"{100 * spread.mean:.2f}"
    return mean if spread.deviation is None else f"{mean} ± {100 * spread.deviation:.2f}"


def digests(cells: Sequence[CellResult]) -> Table:
    """The digest of the system that each method ended with, by repeat: 12 of its 64 characters."""
    repeats = sorted({cell.repeat for cell in cells})
    found = {(cell.method, cell.repeat): cell.digest[:12] for cell in cells}
    names = dict.fromkeys(cell.method for cell in cells)
    rows = [(name, *(found.get((name, repeat), "–") for repeat in repeats)) for name in names]
    return ("method", *(f"repeat {repeat}" for repeat in repeats)), rows


def computed_on(cells: Sequence[CellResult]) -> str:
    """The processors that the cells were computed on; where they are of several kinds, what on which."""
    found: dict[str, dict[str, list[int]]] = {}
    for cell in cells:
        processor = cell.processor or "a processor that was not noted"
        found.setdefault(processor, {}).setdefault(cell.method, []).append(cell.repeat)
    if len(found) == 1:
        return f"Computed on {next(iter(found))}."
    told = "; ".join(f"on {processor}: {_with_repeats(methods)}" for processor, methods in found.items())
    return f"Computed, with the repeats, {told}. Digests are those of a processor."


def _with_repeats(methods: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{name} ({', '.join(map(str, repeats))})" for name, repeats in methods.items())


def command(cells: Sequence[CellResult], settings: Mapping[str, str]) -> str:
    """What runs the same benchmark again."""
    names = ",".join(dict.fromkeys(cell.method for cell in cells))
    repeats = 1 + max(cell.repeat for cell in cells)
    preset = settings.get("preset", "None")
    chosen = f"--preset {preset} " if preset in PRESETS else ""
    suite = settings.get("suite", "")
    named = suite if suite in suites() else f"{suite}.toml"
    return (
        f"mutant bench {named} --data DIR --budget {settings.get('budget')} {chosen}"
        f"--methods {names} --repeats {repeats} --dir NEW"
    )


AGAIN = "The digest of each system's meaning, weights and all, which comes out again on the same back end:"


def as_markdown(
    title: str, methods: Sequence[MethodSummary], settings: Mapping[str, str], cells: Sequence[CellResult]
) -> str:
    lines = [f"# {title}", "", _setting_words(settings), ""]
    lines += [f"- {sentence(found)}" for found in comparisons(methods)]
    lines += ["", "## Methods", "", *_pipes(overview(methods)), "", "![Accuracy against size](sizes.svg)", ""]
    if scale_curve(methods):
        lines += ["![Scale control, with the baselines](scale.svg)", ""]
    lines += ["## Tasks", "", "Test accuracy, %.", "", *_pipes(by_task(methods)), "", "![Task by task](tasks.svg)", ""]
    again = f"    {command(cells, settings)}"
    lines += ["## Again", "", again, "", computed_on(cells), "", AGAIN, "", *_pipes(digests(cells)), ""]
    return "\n".join(lines)


def as_html(
    title: str,
    methods: Sequence[MethodSummary],
    settings: Mapping[str, str],
    pictures: Sequence[Path],
    cells: Sequence[CellResult],
) -> str:
    told = "".join(f"<li>{html.escape(sentence(found))}</li>" for found in comparisons(methods))
    drawn = [picture.read_text(encoding="utf-8") for picture in pictures]
    svg = [f"<figure>{text[text.index('<svg') :]}</figure>" for text in drawn]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><main><h1>{html.escape(title)}</h1><p>{html.escape(_setting_words(settings))}</p>"
        f"<ul>{told}</ul><h2>Methods</h2>{_rows(overview(methods))}{''.join(svg[:-1])}"
        f"<h2>Tasks</h2><p>Test accuracy, %.</p>{_rows(by_task(methods))}{svg[-1]}"
        f"<h2>Again</h2><pre>{html.escape(command(cells, settings))}</pre>"
        f"<p>{html.escape(computed_on(cells))}</p><p>{AGAIN}</p>{_rows(digests(cells))}"
        "</main></html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#22262b;background:#fff;margin:0}main{max-width:72rem;margin:auto;"
    "padding:1.5rem}.wide,pre{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #e4e7ea;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}figure{margin:1.5rem 0}svg{max-width:100%;height:auto}"
)


def _setting_words(settings: Mapping[str, str]) -> str:
    preset = settings.get("preset", "None")
    named = preset if preset in PRESETS else "mutant"
    return (
        f"Root {settings.get('root')}, images of {settings.get('image_size')} pixels, a budget of "
        f"{settings.get('budget')} per task, preset {named}, tasks: {settings.get('tasks')}."
    )


def _pipes(table: Table) -> list[str]:
    header, rows = table
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows)]


def _rows(table: Table) -> str:
    header, rows = table
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _write(file: Path, text: str) -> None:
    try:
        beside = file.with_name(f".{file.name}.part")
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise UserError(f"Cannot write '{file}': {error.strerror or error}.") from error
