"""Scenarios, scorers and benchmarks: run from the repository root, never part of the wheel."""
