"""A system as a whole: `mutant init`, `mutant status`, `mutant digest`, `mutant db upgrade`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mutant.cli.display import emit, facts, fixed, right, say, table
from mutant.cli.grouping import grouped
from mutant.cli.opening import reading
from mutant.cli.options import Db, Json, NewSeed, RootOptions, SettingOptions, WeightsOptions
from mutant.cli.words import amount, count, listed, moment, percent, plural

if TYPE_CHECKING:
    from mutant.storage.leases import Lease
    from mutant.storage.records import Run, Segment
    from mutant.storage.store import Store
    from mutant.storage.tally import Tally

PANEL = "The system"
FAILURES_SHOWN = 5
RESUME, ADD = "mutant resume", "mutant add URI"

database = typer.Typer(
    help="Look after the database.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(grouped(init))
    app.command(rich_help_panel=PANEL)(status)
    app.command(rich_help_panel=PANEL)(digest)
    app.add_typer(database, name="db", rich_help_panel=PANEL)


def init(
    root: RootOptions,
    settings: SettingOptions,
    weights: WeightsOptions,
    seed: NewSeed = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Start a system from a pretrained root. The settings given here become its defaults."""
    from dataclasses import replace

    from mutant.search.system import System

    chosen = settings.settings()
    start = seed if seed is not None else chosen.seed or 0
    with System.create(
        db,
        root=root.root,
        blocks=root.blocks,
        image_size=root.image_size,
        seed=start,
        settings=replace(chosen, seed=None),
        blobs=weights.blobs,
        inline_limit=weights.inline_limit,
        file=root.file,
        sha256=root.sha256,
        trust_first_use=root.trust_first_use,
    ) as system:
        facts_ = _system(system.store)
    if as_json:
        emit(facts_)
        return
    say(f"A new system in {facts_['database']}")
    facts(_system_words(facts_))
    say(f"Next: {ADD} (see: mutant tasks)")


def _system(store: "Store") -> dict[str, Any]:
    from mutant.storage.url import label

    info, root = store.info, store.root()
    return {
        "database": label(store.url),
        "root": info.root,
        "family": info.family,
        "licence": info.licence,
        "source": info.source,
        "sha256": info.sha256,
        "blocks": root.depth,
        "parameters": root.n_parameters,
        "flops": root.flops,
        "image_size": info.image_size,
        "seed": info.seed,
        "weights": _weights(store),
        "settings": dict(info.settings.get("run", {})),
        "mutant_version": info.mutant_version,
        "created_at": info.created_at.isoformat(),
    }


def _weights(store: "Store") -> dict[str, Any]:
    """Where the weights lie, and how many are where."""
    from mutant.storage.weights import held

    depot = store.depot
    with store.reading() as connection:
        inside, outside = held(connection)
    return {
        "inline_limit": depot.inline_limit,
        "blobs": None if depot.blobs is None else depot.blobs.where,
        "in_database": {"count": inside.count, "bytes": inside.bytes},
        "in_blobs": {"count": outside.count, "bytes": outside.bytes},
    }


def _weights_words(found: dict[str, Any]) -> str:
    from mutant.storage.blobs.placement import INLINE_LIMIT

    inside, outside, where = found["in_database"], found["in_blobs"], found["blobs"]
    words = f"{inside['bytes']:,} bytes in the database"
    if outside["count"]:
        return f"{words}, {outside['bytes']:,} in {where}"
    usual = where is None or found["inline_limit"] == INLINE_LIMIT
    return words if usual else f"{words}; what has more than {found['inline_limit']:,} goes to {where}"


def _system_words(system: dict[str, Any]) -> dict[str, str]:
    given = ", ".join(f"{name} = {value}" for name, value in system["settings"].items())
    words = {
        "root": f"{system['root']}, {plural(system['blocks'], 'block')}, {count(system['parameters'])} parameters",
        "image size": f"{system['image_size']} x {system['image_size']} pixels",
        "licence": system["licence"],
        "source": system["source"],
        "SHA-256": system["sha256"] or "none: random weights",
        "seed": str(system["seed"]),
        "weights": _weights_words(system["weights"]),
    }
    return words | ({"settings": given} if given else {})


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Show who trains what, again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, max=3600, metavar="S", help="Seconds between looks, with --watch.")
    ] = 2.0,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show the system: its root, its runs and what became of their children, what to do next."""
    with reading(db) as store:
        if watch:
            from mutant.cli.live import watch as watching

            watching(store, every=every, as_json=as_json)
            return
        found = status_facts(store)
    if as_json:
        emit(found)
        return
    system = found["system"]
    say(f"System in {system['database']}")
    words = _system_words(system)
    states = ", ".join(f"{n:,} {state.lower()}" for state, n in found["candidates"].items())
    facts(
        {name: words[name] for name in ("root", "image size", "seed", "weights")}
        | {"tasks": f"{len(found['tasks'])}: {listed(found['tasks'])}" if found["tasks"] else "none yet"}
        | {"children": states or "none yet"}
        | ({"at work": _at_work_words(found["at_work"])} if found["at_work"] else {})
    )
    if found["runs"]:
        say()
        table(
            [
                fixed("run"),
                fixed("began"),
                fixed("state"),
                "task",
                right("children"),
                right("failed"),
                fixed("segment"),
                right("best"),
            ],
            _run_rows(found["runs"]),
        )
        for run in found["runs"]:
            if (budget := run["budget"]) is not None:
                spent, of = (amount(budget[key], budget["unit"]) for key in ("spent", "amount"))
                say(f"Run {run['run']}: {spent} of a budget of {of}")
    if found["failures"]:
        say()
        say("Last failures")
        table(
            ["run", "task", "child", "kind", "reason"],
            (
                [
                    str(f["run"]),
                    f["task"],
                    f"{f['generation']}.{f['child']}",
                    f["failure"],
                    f["reason"],
                ]
                for f in found["failures"]
            ),
        )
    say()
    say(f"Next: {found['next']}")


def _at_work(store: "Store", holder: "Lease", run: "Run | None") -> dict[str, Any]:
    """Who holds the lease, and the children that are being trained."""
    going = [segment for segment in run.segments if segment.state == "open"][:1] if run else []
    records = [(segment.task, record) for segment in going for record in store.candidates(segment.key)]
    return {
        "process": str(holder.process),
        "purpose": holder.purpose,
        "since": holder.since.isoformat(),
        "running": [
            {"task": task, "generation": r.generation, "child": r.child, "worker": r.worker, "attempt": r.attempt}
            for task, r in records
            if r.state == "RUNNING"
        ],
    }


def _at_work_words(found: dict[str, Any]) -> str:
    since = moment(datetime.fromisoformat(found["since"]))
    words = f"{found['process']} ({found['purpose']}) since {since}"
    children = [f"{r['task']} {r['generation']}.{r['child']} on {r['worker']}" for r in found["running"]]
    return f"{words}: {', '.join(children)}" if children else words


def _run_rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    rows: list[list[str]] = []
    for run in runs:
        began = moment(datetime.fromisoformat(run["started_at"]))
        for number, segment in enumerate(run["segments"]):
            first = [str(run["run"]), began, run["state"]] if number == 0 else ["", "", ""]
            children, failed = f"{segment['done']}/{segment['children']}", str(segment["failed"])
            rows.append([*first, segment["task"], children, failed, segment["state"], percent(segment["best"])])
    return rows


def status_facts(store: "Store") -> dict[str, Any]:
    """The whole of `mutant status`, as plain data."""
    from mutant.storage.tally import Tally

    tallies = store.tallies()
    totals: Counter[str] = Counter()
    for tally in tallies.values():
        totals.update(tally.states)
    runs: list[dict[str, Any]] = [
        {
            "run": run.id,
            "state": run.state,
            "started_at": run.started_at.isoformat(),
            "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
            "budget": _budget(run, [tallies[s.key] for s in run.segments if s.key in tallies]),
            "segments": [_segment(run, segment, tallies.get(segment.key, Tally())) for segment in run.segments],
        }
        for run in store.runs()
    ]
    unfinished, holder = store.unfinished_run(), store.holder()
    tasks, learnt = [task.name for task in store.tasks()], set(store.learnt())
    pathless = [name for name in tasks if name not in learnt]
    return {
        "system": _system(store),
        "tasks": tasks,
        "candidates": dict(sorted(totals.items())),
        "runs": runs,
        "failures": [asdict(failure) for failure in store.last_failures(FAILURES_SHOWN)],
        "at_work": None if holder is None else _at_work(store, holder, unfinished),
        "unfinished_run": None if unfinished is None else unfinished.id,
        "next": RESUME if unfinished else _next(tasks, pathless),
    }


def _next(tasks: list[str], pathless: list[str]) -> str:
    """What to do when no run is unfinished."""
    if pathless:
        return f"mutant evolve {pathless[0]}"
    return "mutant list" if tasks else ADD


def _segment(run: "Run", segment: "Segment", tally: "Tally") -> dict[str, Any]:
    return {
        "index": segment.index,
        "task": segment.task,
        "visit": segment.visit,
        "state": segment.state,
        "children": sum(tally.states.values()) if run.children is None else run.children,
        "done": tally.done,
        "failed": tally.states.get("FAILED", 0),
        "best": tally.best,
        "winner": segment.winner,
        **{name: _rounded(name, value) for name, value in asdict(tally.cost).items()},
        "predicted_seconds": _rounded("seconds", tally.predicted_seconds),
        "predicted_flops": tally.predicted_flops,
    }


def _rounded(name: str, value: float | None) -> float | None:
    return round(value, 3) if value is not None and name.endswith("seconds") else value


def _budget(run: "Run", tallies: "Sequence[Tally]") -> dict[str, Any] | None:
    """The budget of a run, and what its children took of it; None for a run without one."""
    from mutant.search.budget import Spent, budget_of

    budget = budget_of(run.config)
    if budget is None:
        return None
    costs = [tally.cost for tally in tallies]
    spent = Spent(
        sum(tally.done for tally in tallies),
        sum(cost.flops for cost in costs),
        sum(cost.on_device for cost in costs),
        sum(cost.seconds for cost in costs),
    )
    return {"text": budget.text, "unit": budget.unit, "amount": budget.amount, "spent": budget.spent(spent)}


def digest(db: Db = None, as_json: Json = False) -> None:
    """One number for all that the database means: rows without times, and weights. Equal systems have equal ones."""
    from mutant.storage.digest import digest as digest_of
    from mutant.storage.url import label

    with reading(db) as store:
        found, place = digest_of(store), label(store.url)
    if as_json:
        emit({"database": place, "digest": found})
    else:
        say(found)


@database.command()
def upgrade(db: Db = None, as_json: Json = False) -> None:
    """Bring an older database's schema up to date."""
    from mutant.storage.migrate import upgrade as migrate

    before, after = migrate(db)
    if as_json:
        emit({"before": before, "after": after, "changed": before != after})
        return
    if before == after:
        say(f"The schema is up to date: {after}.")
    else:
        say(f"Upgraded the schema from {before} to {after}.")
