"""The life of one memory: when it came, what it became, what took it out of the context, where it still is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memkv.chat.terminal import out
from memkv.config import format_bytes
from memkv.errors import NotFound
from memkv.recall.stretch import text_of
from memkv.store import Event, Memory, TenantStore


@dataclass(frozen=True)
class Heir:
    """A memory that was derived from the one in question."""

    n: int
    kind: str
    in_context: bool
    text: str


@dataclass(frozen=True)
class Passage:
    """One compaction that the memory went through: its line in the ledger, and the event's sizes in bytes."""

    when: float
    strategy: str
    status: str
    probability: float | None
    found_in: tuple[int, ...]
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Life:
    """See the module. `found` are the places where its content still is, the nearest to the model first."""

    address: str
    kind: str
    role: str
    created: float
    text: str
    in_context: bool
    sources: tuple[int, ...]
    heirs: tuple[Heir, ...]
    compactions: tuple[Passage, ...]
    left: float | None
    found: tuple[str, ...]


def life_of(tenant: TenantStore, session: str, n: int) -> Life:
    """Read it off the store.

    Raises:
        NotFound: no such memory; says when it was forgotten, if it was.
    """
    record = tenant.session(session)
    try:
        memory = tenant.memory(session, n)
    except NotFound as error:
        for event in tenant.events(session, "forgot"):
            if n == event.data.get("memory") or n in event.data.get("derived", ()):
                raise NotFound(
                    f"{session}/{n} was forgotten on {moment(event.created)}", "It cannot be had back."
                ) from error
        raise
    heirs = tuple(
        Heir(heir.n, heir.kind, heir.n in record.context, heir.text)
        for heir in (tenant.memory(session, number) for number in tenant.derived(session, n))
    )
    passages = tuple(
        passage for event in tenant.events(session, "compaction") if (passage := passage_in(event, n)) is not None
    )
    in_context = n in record.context
    took_it_out = [passage.when for passage in passages if passage.status != "verbatim"]
    return Life(
        memory.address, memory.kind, memory.role, memory.created, text_of(tenant, memory), in_context, memory.sources,
        heirs, passages, None if in_context or not took_it_out else took_it_out[-1], places(memory, in_context, heirs),
    )  # fmt: skip


def passage_in(event: Event, n: int) -> Passage | None:
    """The memory's line in the ledger of a compaction."""
    for entry in event.data.get("ledger", ()):
        if entry.get("memory") == n:
            return Passage(
                event.created, str(event.data.get("strategy", "")), str(entry.get("status", "unknown")),
                entry.get("probability"), tuple(entry.get("found_in", ())), event.data.get("before"),
                event.data.get("after"),
            )  # fmt: skip
    return None


def places(memory: Memory, in_context: bool, heirs: tuple[Heir, ...]) -> tuple[str, ...]:
    """Where the content still is."""
    found = ["in the context, word for word"] if in_context else []
    if of := memory.data.get("of"):
        return (*found, f"in the store, word for word: session {of['session']}, items {of['first']} to {of['last']}")
    found += [f"in the context, as far as {heir.kind} {heir.n} holds it" for heir in heirs if heir.in_context]
    return (*found, f"in the store, word for word: memkv memory show {memory.address}")


def render_life(life: Life, console: Console | None = None) -> None:
    """As people read it."""
    console = console or out()
    console.print(Text(f"{life.address}: {life.role or life.kind}, {moment(life.created)}", style="bold"))
    console.print(Text(plain(life.text)))
    if life.sources:
        console.print(Text(f"Made from {', '.join(map(str, life.sources))}."))
    for heir in life.heirs:
        where = "in the context" if heir.in_context else "in the store"
        console.print(Text(f"Went into {heir.kind} {heir.n}, {where}: {one_line(heir.text)}"))
    if life.compactions:
        table = Table("compaction", "strategy", "cache", "became", "probability", box=None, pad_edge=False)
        for step in life.compactions:
            sizes = [format_bytes(size) for size in (step.before, step.after) if size is not None]
            heirs = f" (in {', '.join(map(str, step.found_in))})" if step.found_in else ""
            likely = "not measured" if step.probability is None else f"{step.probability:.0%}"
            became = Text(step.status.replace("_", " ") + heirs)
            table.add_row(moment(step.when), Text(plain(step.strategy)), " to ".join(sizes), became, likely)
        console.print(table)
    elif not life.in_context:
        console.print("No compaction took it out: it was never put into the context, or a forget rebuilt the context.")
    if life.left is not None:
        console.print(f"It left the context on {moment(life.left)}.")
    console.print("It can still be found:")
    for place in life.found:
        console.print(Text(f"  {place}"))


def moment(seconds: float) -> str:
    """Local time to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def plain(text: str) -> str:
    """Text that cannot steer a terminal: control characters are shown, not sent."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def one_line(text: str, width: int = 72) -> str:
    """The beginning of a text on one line."""
    joined = " ".join(plain(text).split())
    return joined if len(joined) <= width else joined[: width - 1] + "…"
