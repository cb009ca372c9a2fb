"""`sample:NAME`: real data that ships in packages."""

from __future__ import annotations

from mutant.tasks.limits import Limits
from mutant.tasks.raw import RawTask
from mutant.tasks.samples.catalogue import read_sample
from mutant.tasks.uri import TaskURI


def read(uri: TaskURI, limits: Limits) -> RawTask:
    """The sample's data; raises UserError that names the nearest sample."""
    return read_sample(uri.target, uri.option("size"))
