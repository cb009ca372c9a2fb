"""The pool as it was before a run, from the segments that were finished by then."""

from sqlalchemy import select

from mutant.pool import Pool
from mutant.storage import catalog, paths
from mutant.storage.checks import checked_key
from mutant.storage.faults import decoding
from mutant.storage.records import Run
from mutant.storage.schema import SegmentRow, TaskRow
from mutant.storage.store import Store


def pool_before(store: Store, run: Run, *, removed: bool) -> Pool:
    """The root and the best path that every task had when `run` began, in the order in which the tasks came.

    Tasks that were taken out since then are in it if `removed`; which of them were out at the time is not recorded.
    """
    query = (
        select(TaskRow.name, SegmentRow.winner_key)
        .join(TaskRow, TaskRow.key == SegmentRow.task_key)
        .where(SegmentRow.run < run.id, SegmentRow.state == "finished", SegmentRow.winner_key.is_not(None))
        .order_by(TaskRow.position, SegmentRow.run, SegmentRow.segment)
    )
    if not removed:
        query = query.where(TaskRow.removed_at.is_(None))
    with store.reading() as connection:
        with decoding():
            winners = {task: checked_key(key) for task, key in connection.execute(query) if key is not None}
        root = paths.load_path(connection, catalog.load_system(connection)[1])
        found = {path.task: path for path in paths.load_paths(connection, paths.with_keys(winners.values()))}
        return Pool(root, tuple(found[task] for task in winners if task in found))
