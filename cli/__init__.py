"""The command `mutant`: parse, call, print."""
