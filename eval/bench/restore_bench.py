"""Restore of a conversation, from file to a checked, ready cache, against a prefill and against a plain read."""

from __future__ import annotations

from eval.bench.conversation import commit_cache
from eval.bench.harness import Bench, Goal, Row, take_turns
from memkv import MemoryStore
from memkv.session.opening import restore

# Fewer rounds than elsewhere: a prefill of 2,048 tokens takes seconds.
PREFILL_ROUNDS = 7


def rows(bench: Bench) -> list[Row]:
    """Milliseconds; the file is in the page cache, as it is for a session that was used lately."""
    model = bench.model
    with MemoryStore.open(bench.folder / "store") as store:
        tenant = store.tenant("bench")
        record = commit_cache(model, tenant, tenant.create_session("bench"), bench.live)
        assert record.blob is not None
        path = next(path for path in (bench.folder / "store").rglob(f"{record.blob.id}*") if path.is_file())

        def from_store() -> None:
            live, _ = restore(model, tenant, record, rebuild=False)
            assert len(live) == bench.tokens

        def from_text() -> None:
            model.extend(model.new_cache(), bench.token_ids)

        def plain_read() -> None:
            with path.open("rb") as file:
                file.read()

        against_text = take_turns({"ours": from_store, "peer": from_text}, min(bench.rounds, PREFILL_ROUNDS), warmup=1)
        against_read = take_turns({"ours": from_store, "peer": plain_read}, bench.rounds)
    name = f"restore of {bench.tokens} tokens"
    return [
        Row(name, against_text["ours"], against_text["peer"], "ms", Goal("speedup", 30), "prefill of the same tokens"),
        Row(name, against_read["ours"], against_read["peer"], "ms", Goal("ratio", 1.5), "read() of the same file"),
    ]
