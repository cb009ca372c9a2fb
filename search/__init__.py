"""How the system evolves: sampling, scoring, retention, the loop, evaluators."""
