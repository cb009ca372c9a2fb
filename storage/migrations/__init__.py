"""The schema's history. Every change of `schema.py` adds a file under `versions/` and its name here."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""All revisions, oldest first; the last is the one that this program reads and writes."""
