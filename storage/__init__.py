"""What is kept: the database of a system, and what can be told and proved from it."""
