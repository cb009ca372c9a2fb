"""Benchmark suites: a TOML file each, that tells the tasks, the root and the budget; and reading them."""
