"""Answers for the tasks of a system. Never imports search, Ray or TFDS."""
