"""How writers take turns, on either back end."""

BUSY_SECONDS = 30.0
"""How long a writer waits for another one."""
WRITES = "mutant_writes"
"""Execution option of connections whose transactions take the write lock from the start."""
