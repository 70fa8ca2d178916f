"""Published figures about cache sizes, measured again: configurations, claims, verdicts."""
