"""Weights beside the database: where they lie, a directory or an object store, and what is swept."""
