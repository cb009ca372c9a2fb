"""Readers of published weight files: NumPy arrays by name, and nothing that a file could make run."""

from mutant.checkpoints.read import FORMATS, read_checkpoint

__all__ = ["FORMATS", "read_checkpoint"]
