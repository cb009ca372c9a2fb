"""The tables of work as it is done: which worker did what when. They have no part in what a system means."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mutant.storage.schema import Base, Name


class TimingRow(Base):
    """Where the time of a candidate that ended went (`mutant/spans.py`): its worker's spans as [kind, seconds after
    `began`, seconds], and when its outcome was committed, by the controller's clock. Times are seconds since 1970 UTC.
    """

    __tablename__ = "timings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run", "segment", "generation", "child"],
            ["candidates.run", "candidates.segment", "candidates.generation", "candidates.child"],
            name="fk_timings_candidate",
        ),
    )

    run: Mapped[int] = mapped_column(primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    child: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(Name)
    pid: Mapped[int] = mapped_column(BigInteger)
    device: Mapped[str] = mapped_column(Name)
    began: Mapped[float]
    spans: Mapped[list[Any]]
    reused_rows: Mapped[int] = mapped_column(BigInteger)
    computed_rows: Mapped[int] = mapped_column(BigInteger)
    held_bytes: Mapped[int] = mapped_column(BigInteger)
    commit_began: Mapped[float | None]
    commit_seconds: Mapped[float | None]


class WorkerRow(Base):
    """A worker of one controller (by the token of its lease), with where it is as soon as that is known."""

    __tablename__ = "workers"

    token: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    since: Mapped[datetime]
    host: Mapped[str | None] = mapped_column(Name)
    pid: Mapped[int | None] = mapped_column(BigInteger)
    device: Mapped[str | None] = mapped_column(Name)
