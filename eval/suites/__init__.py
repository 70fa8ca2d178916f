"""Public suites of long-context tests, for any memory system: RULER and LongBench."""
