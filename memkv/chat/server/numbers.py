"""What a server counts, for Prometheus. Numbers of the whole server; nothing in them names a tenant or a session."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from memkv.chat.server.desk import Desk
from memkv.chat.server.wire import Answered

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Numbers:
    """Counters of one server.

    Args:
        desk: whose caches are measured.
    """

    def __init__(self, desk: Desk) -> None:
        self.registry = registry = CollectorRegistry()
        self.turns = Counter("memkv_turns", "Replies, by how they ended.", ["finish"], registry=registry)
        self.tokens = Counter("memkv_tokens", "Tokens, by what was done with them.", ["kind"], registry=registry)
        self.errors = Counter("memkv_errors", "Requests that ended in an error, by code.", ["code"], registry=registry)
        self.first = Histogram(
            "memkv_first_token_seconds", "From the model's turn to its first token.", buckets=SECONDS, registry=registry
        )
        self.whole = Histogram("memkv_turn_seconds", "A whole turn.", buckets=SECONDS, registry=registry)
        gauges = (
            ("memkv_live_cache_bytes", "Bytes of all caches in memory.", lambda: desk.live_bytes),
            ("memkv_live_sessions", "Sessions whose caches are in memory.", lambda: desk.live_sessions),
            ("memkv_waiting", "Requests that wait for the model or are answered.", lambda: desk.waiting),
        )
        for name, text, read in gauges:
            Gauge(name, text, registry=registry).set_function(read)

    def count(self, answered: Answered) -> None:
        """A reply."""
        self.turns.labels("interrupted" if answered.interrupted else answered.finish).inc()
        kinds = {
            "reused": answered.reused, "spliced": answered.spliced, "read": answered.read,
            "written": answered.generated,
        }  # fmt: skip
        for kind, tokens in kinds.items():
            self.tokens.labels(kind).inc(tokens)
        self.first.observe(answered.first_token_seconds)
        self.whole.observe(answered.seconds)

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
