"""The one step that whatever changes the system between runs takes first: removal, collection, import."""

from sqlalchemy import Connection, select

from mutant.storage.refusals import Conflict
from mutant.storage.schema import RunRow


def exclusive(connection: Connection, doing: str) -> None:
    """Refuse `doing` while a run is unfinished: it draws on the pool and on the weights as they were when it began.

    `connection` is writing, so no run can begin before its transaction ends.
    """
    run = connection.scalar(select(RunRow.id).where(RunRow.state == "open"))
    if run is not None:
        raise Conflict(
            f"Run {run} is not finished, and {doing} could change what becomes of it.",
            hint="Finish it first: mutant resume. Or give it up: mutant abandon",
        )
