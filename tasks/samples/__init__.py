"""Real data that ships in packages of the extra `samples`: `sample:NAME`."""

from mutant.tasks.samples.catalogue import catalogue, is_available
from mutant.tasks.samples.info import SampleInfo

__all__ = ["SampleInfo", "catalogue", "is_available"]
