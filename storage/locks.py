"""What a connection is told by its options: how writers take turns, and where weights lie."""

BUSY_SECONDS = 30.0
"""How long a writer waits for another one."""
DEPOT = "mutant_depot"
"""Execution option of connections: the `Depot` that says where weights lie."""
WRITES = "mutant_writes"
"""Execution option of connections whose transactions take the write lock from the start."""
