"""Benchmarks of the method: the search beside fine-tuning and its own ablations, at one budget, over repeats."""
