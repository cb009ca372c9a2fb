"""One outcome is committed: one transaction, and what the loop remembers with it."""

from mutant.outcome import Outcome
from mutant.search.memory import Memory
from mutant.search.setup import Search
from mutant.spans import Span
from mutant.storage.records import CandidateRecord
from mutant.storage.refusals import Late


def commit(
    search: Search, record: CandidateRecord, outcome: Outcome, memory: Memory, **told: int | None
) -> Span | None:
    """Write what came of a candidate; when, or None when it comes too late, which is an event.

    `told`: see `commit_outcome`.
    """
    try:
        committed = search.store.commit_outcome(record.segment, record.generation, record.child, outcome, **told)
    except Late as late:
        search.store.record_event(search.run.id, "late result rejected", {"reason": late.message})
        return None
    memory.ledger.note(record.segment.index, outcome)
    return committed
