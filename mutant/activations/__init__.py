"""What a child's frozen prefix gives for the examples, computed once for all workers of a host, within a budget."""
