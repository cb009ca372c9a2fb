"""The evolutionary loop (arXiv 2205.10937, algorithm 1): segments of generations, one best path per task at the end.

Adding a task is resuming from nothing: the loop reads what is committed and goes on at the first open position. A
generation depends only on the pool that the generations before it left, and every draw on its position, so an
interrupted and resumed run ends like an undisturbed one, with any number of workers. Without generations
(`mutant.search.asynchronous`) a child depends on the outcomes that were known when it was drawn, which are recorded.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from mutant.blueprint import blueprint
from mutant.outcome import Trained
from mutant.path import Path
from mutant.search.asynchronous import work_off
from mutant.search.committing import commit
from mutant.search.evaluator import Work
from mutant.search.golden import golden_outputs
from mutant.search.halving import stop_below
from mutant.search.memory import Memory
from mutant.search.planning import out_of_time, plan
from mutant.search.population import Population
from mutant.search.progress import (
    BudgetSpent,
    ChildBegun,
    ChildFinished,
    GenerationFinished,
    SegmentFinished,
    SegmentStarted,
)
from mutant.search.setup import Search
from mutant.search.sharing import sharing
from mutant.spans import Seat
from mutant.storage.effort import efforts
from mutant.storage.records import CandidateRecord, Segment


def evolve(search: Search, measure: Callable[[], None] = lambda: None) -> None:
    """Work off every open segment of the run, in order, `measure` what came of it, and finish the run."""
    memory = remembering(search)
    size = search.store.root().hyperparameters.image_size
    waiting = [segment for segment in search.run.segments if segment.state != "finished"]
    for place, segment in enumerate(waiting):
        for after in waiting[place + 1 : place + 2]:
            search.supply.expect(after.task, size)
        evolve_segment(search, segment, memory)
    measure()
    search.store.finish_run(search.run.id)


def remembering(search: Search) -> Memory:
    """What the loop has to know of the run before it goes on."""
    return Memory.of(search.store, search.run, search.evaluator.flops)


def evolve_segment(search: Search, segment: Segment, memory: Memory) -> None:
    """One visit of a task: children until all are spent; then only the best path of the task stays."""
    search = replace(search, config=search.config.of_segment(segment.index))
    records = search.store.candidates(segment.key)
    done = sum(not record.is_open for record in records)
    search.listener(SegmentStarted(segment.task, segment.index, len(search.run.segments), search.config.children, done))
    population = Population.of(segment.task, memory.pool, search.config)
    if search.config.asynchronous:
        population = work_off(search, segment, population, memory, records)
    else:
        population = _by_generations(search, segment, population, memory, records)
    if population.children < search.config.children:
        _cut_short(search, segment, population, memory)
    _finish(search, segment, population, memory)


def _by_generations(
    search: Search, segment: Segment, population: Population, memory: Memory, records: Sequence[CandidateRecord]
) -> Population:
    """Generations until the children are spent, or a budget is. `records` are all that were planned before."""
    memory.ended = []
    generation = 0
    while population.children < search.config.children and not (generation and out_of_time(search)):
        planned = [record for record in records if record.generation == generation]
        before, population = (
            population,
            evolve_generation(search, segment, generation, population, memory, planned),
        )
        if population is before:
            break
        generation += 1
    return population


def _cut_short(search: Search, segment: Segment, population: Population, memory: Memory) -> None:
    """Tell that a budget ends the segment before it had all its children, with what was spent until now."""
    budget, spent = search.config.budget, memory.ledger.until(segment.index)
    if out_of_time(search) or budget is None:
        allowed = search.allowed or 0.0
        told = BudgetSpent(segment.task, "seconds", allowed, allowed + time.monotonic() - (search.deadline or 0.0))
    else:
        told = BudgetSpent(segment.task, budget.unit, budget.amount, budget.spent(spent))
    place = {"task": segment.task, "segment": segment.index, "children": population.children}
    used = {"unit": told.unit, "budget": told.budget, "spent": told.spent, "run_spent": asdict(spent)}
    search.store.record_event(search.run.id, "budget ran out", place | used)
    search.listener(told)


def evolve_generation(
    search: Search,
    segment: Segment,
    generation: int,
    population: Population,
    memory: Memory,
    records: Sequence[CandidateRecord] = (),
) -> Population:
    """Draw a generation's children against the pool, train those that are open, and let the good ones join.

    The population itself when the budget has no room for a child. `records` are its children where they were planned
    before.
    """
    if not records:
        planned = plan(search, segment, generation, population, memory)
        if not planned:
            return population
        search.store.plan_generation(segment.key, generation, planned)
        records = [CandidateRecord(segment.key, generation, child) for child in planned]
    trained = _train(search, segment, generation, records, memory)
    records = search.store.candidates(segment.key, generation)
    memory.ended += records
    children = [trained.get(record.path) or search.store.path(record.path) for record in records if record.path]
    for path in children:
        memory.lines.add(path)
    after = population.drawn(record.parent for record in records).joined(children)
    joined = len(after.own) - len(population.own)
    search.listener(GenerationFinished(segment.task, generation, joined, after.best, after.best_score))
    return after


def _train(
    search: Search,
    segment: Segment,
    generation: int,
    records: Sequence[CandidateRecord],
    memory: Memory,
) -> Mapping[str, Path]:
    """Train and commit those that are open: one transaction per outcome, so whatever happens next, this child's time is
    not lost. The paths that came of them, by id."""
    store, training = search.store, search.config.training
    waiting = [record for record in records if record.is_open]
    bounds = stop_below(memory.ended, search.config.halving, training.validations)
    lines = memory.lines
    plans = [blueprint(lines.ancestors(record.parent), record.candidate.mutations) for record in waiting]
    predicted = [(r.planned.predicted_flops or 0.0, r.planned.predicted_seconds or 0.0) for r in waiting]
    drawn = zip(waiting, plans, predicted, strict=True)
    work = sharing([Work(r.candidate, plan, training, (), bounds, *costs) for r, plan, costs in drawn])
    attempts: dict[int, int] = {}
    trained: dict[str, Path] = {}

    def begun(index: int, worker: str | None, seat: Seat | None = None, /) -> None:
        record = waiting[index]
        if worker is None:
            store.lose_candidate(segment.key, record.generation, record.child, attempts.pop(index))
            return
        attempts[index] = store.lease_candidate(segment.key, record.generation, record.child, worker, seat)
        search.listener(ChildBegun(segment.task, generation, record.child, worker))

    for index, outcome in search.evaluator.train(work, search.supply, begun):
        record = waiting[index]
        committed = commit(search, record, outcome, memory, attempt=attempts.get(index))
        if committed is None:
            continue
        if isinstance(outcome, Trained):
            trained[outcome.path.id] = outcome.path
        told = ChildFinished(segment.task, generation, record.child, outcome, training.validations, committed.seconds)
        search.listener(told)
    return trained


def _finish(search: Search, segment: Segment, population: Population, memory: Memory) -> None:
    """Commit the winner with its golden outputs; without a single trained child the segment ends without one."""
    winner = population.best
    golden = golden_outputs(winner, search.evaluator, search.supply) if winner else None
    search.store.finish_segment(segment.key, winner.id if winner else None, golden)
    memory.won(winner)
    spent = next((effort for effort in efforts(search.store, segment.key)), None)
    search.listener(SegmentFinished(segment.task, winner, spent))
