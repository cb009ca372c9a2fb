"""The evolutionary loop (arXiv 2205.10937, algorithm 1): segments of generations, one best path per task at the end.

Adding a task is resuming from nothing: the loop reads what is committed and goes on at the first open position. A
generation depends only on the pool that the generations before it left, and every draw on its position, so an
interrupted and resumed run ends like an undisturbed one, with any number of workers.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from mutant.blueprint import blueprint
from mutant.search.evaluator import Work
from mutant.search.golden import golden_outputs
from mutant.search.halving import stop_below
from mutant.search.planning import plan, spent_by_run
from mutant.search.population import Population
from mutant.search.progress import BudgetSpent, ChildFinished, GenerationFinished, SegmentFinished, SegmentStarted
from mutant.search.retention import best_path
from mutant.search.scoring import score_of
from mutant.search.setup import Search
from mutant.search.sharing import sharing
from mutant.storage.effort import efforts
from mutant.storage.records import CandidateRecord, Segment
from mutant.storage.refusals import Late


def evolve(search: Search, measure: Callable[[], None] = lambda: None) -> None:
    """Work off every open segment of the run, in order, `measure` what came of it, and finish the run."""
    size = search.store.root().hyperparameters.image_size
    waiting = [segment for segment in search.run.segments if segment.state != "finished"]
    for place, segment in enumerate(waiting):
        for after in waiting[place + 1 : place + 2]:
            search.supply.expect(after.task, size)
        evolve_segment(search, segment)
    measure()
    search.store.finish_run(search.run.id)


def evolve_segment(search: Search, segment: Segment) -> None:
    """One visit of a task: generations until its children are spent; then only the best path of the task stays."""
    search = replace(search, config=search.config.of_segment(segment.index))
    records = search.store.candidates(segment.key)
    done = sum(not record.is_open for record in records)
    search.listener(SegmentStarted(segment.task, segment.index, len(search.run.segments), search.config.children, done))
    population = Population(segment.task, search.store.pool())
    generation = 0
    while population.children < search.config.children:
        if generation and _out_of_time(search):
            _cut_short(search, segment, population)
            break
        before, population = population, evolve_generation(search, segment, generation, population)
        if population is before:
            _cut_short(search, segment, population)
            break
        generation += 1
    _finish(search, segment, population)


def _cut_short(search: Search, segment: Segment, population: Population) -> None:
    """Tell that a budget ends the segment before it had all its children, with what was spent until now."""
    budget, spent = search.config.budget, spent_by_run(search, segment)
    if _out_of_time(search) or budget is None:
        allowed = search.allowed or 0.0
        told = BudgetSpent(segment.task, "seconds", allowed, allowed + time.monotonic() - (search.deadline or 0.0))
    else:
        told = BudgetSpent(segment.task, budget.unit, budget.amount, budget.spent(spent))
    place = {"task": segment.task, "segment": segment.index, "children": population.children}
    used = {"unit": told.unit, "budget": told.budget, "spent": told.spent, "run_spent": asdict(spent)}
    search.store.record_event(search.run.id, "budget ran out", place | used)
    search.listener(told)


def evolve_generation(search: Search, segment: Segment, generation: int, population: Population) -> Population:
    """Draw a generation's children against the pool, train those that are open, and let the good ones join.

    The population itself when the budget has no room for a child.
    """
    records = _of_generation(search, segment, generation)
    if not records:
        planned = plan(search, segment, generation, population)
        if not planned:
            return population
        search.store.plan_generation(segment.key, generation, planned)
        records = _of_generation(search, segment, generation)
    _train(search, segment, generation, [record for record in records if record.is_open])
    records = _of_generation(search, segment, generation)
    children = [search.store.path(record.path) for record in records if record.path is not None]
    after = population.after(children, records, search.config.scale)
    best = best_path(after.own, after.pool, search.config.scale)
    joined = len(after.own) - len(population.own)
    score = score_of(best, after.pool, search.config.scale) if best else 0.0
    search.listener(GenerationFinished(segment.task, generation, joined, best, score))
    return after


def _train(search: Search, segment: Segment, generation: int, records: Sequence[CandidateRecord]) -> None:
    """Train and commit: one transaction per outcome, so whatever happens next, this child's time is not lost."""
    store, training = search.store, search.config.training
    earlier = [record for record in store.candidates(segment.key) if record.generation < generation]
    bounds = stop_below(earlier, search.config.halving, training.validations)
    lines = {parent: store.ancestors(parent) for parent in dict.fromkeys(record.parent for record in records)}
    plans = [blueprint(lines[record.parent], record.candidate.mutations) for record in records]
    predicted = [(r.planned.predicted_flops or 0.0, r.planned.predicted_seconds or 0.0) for r in records]
    drawn = zip(records, plans, predicted, strict=True)
    work = sharing([Work(r.candidate, plan, training, (), bounds, *costs) for r, plan, costs in drawn])
    attempts: dict[int, int] = {}

    def begun(index: int, worker: str) -> None:
        record = records[index]
        attempts[index] = store.lease_candidate(segment.key, record.generation, record.child, worker)

    for index, outcome in search.evaluator.train(work, search.supply, begun):
        record = records[index]
        try:
            place = (segment.key, record.generation, record.child)
            store.commit_outcome(*place, outcome, attempt=attempts.get(index))
        except Late as late:
            store.record_event(search.run.id, "late result rejected", {"reason": late.message})
            continue
        search.listener(ChildFinished(segment.task, generation, record.child, outcome, training.validations))


def _finish(search: Search, segment: Segment, population: Population) -> None:
    """Commit the winner with its golden outputs; without a single trained child the segment ends without one."""
    winner = best_path(population.own, population.pool, search.config.scale)
    golden = golden_outputs(winner, search.evaluator, search.supply) if winner else None
    search.store.finish_segment(segment.key, winner.id if winner else None, golden)
    spent = next((effort for effort in efforts(search.store, segment.key)), None)
    search.listener(SegmentFinished(segment.task, winner, spent))


def _of_generation(search: Search, segment: Segment, generation: int) -> Sequence[CandidateRecord]:
    return [record for record in search.store.candidates(segment.key) if record.generation == generation]


def _out_of_time(search: Search) -> bool:
    return search.deadline is not None and time.monotonic() > search.deadline
