"""`memkv chat`: talk to a model; the conversation survives its process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from memkv.chat.recalled import origin
from memkv.chat.terminal import emit, err, error_data, out, progress, report, size_line
from memkv.config import format_bytes
from memkv.errors import ConfigError, Conflict, MemkvError, NotFound

if TYPE_CHECKING:
    from memkv.session import Reply, Session
    from memkv.store import TenantStore


@dataclass(frozen=True)
class Chat:
    """Talk to a model. Every finished turn is on disk before the next prompt; start again and it goes on.

    With --json it reads one message a line from standard input and writes one JSON document a turn.
    """

    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "smollm2-135m"
    """Embedded model, a local folder, or a hub id."""
    session: Annotated[str | None, tyro.conf.arg(aliases=["-s"])] = None
    """Name of a session: goes on if it exists, else starts."""
    resume: Annotated[bool, tyro.conf.arg(aliases=["-r"])] = False
    """Go on with the session used last."""
    list: bool = False
    """List the sessions and stop."""
    tenant: str = "default"
    """Whose memory."""
    store: str | None = None
    """Where the store is (default: MEMKV_STORE_URL, or a folder in MEMKV_HOME)."""
    system: str | None = None
    """System prompt of a new session."""
    context_budget: str | None = None
    """Most bytes of live cache, like 16MiB (default of a new session: 64 MiB)."""
    strategy: str | None = None
    """How to compact: trained, pinned+trained, trained:FOLDER, truncate, summary, pinned, pinned+summary."""
    codec: str | None = None
    """How the cache is stored: identity, fp8, int8, int4, ..."""
    rebuild: bool = False
    """Read the text again if the stored cache belongs to another model."""
    max_tokens: int = 256
    """Longest reply, in tokens."""
    temperature: float = 0.0
    """0 always takes the likeliest token."""
    top_p: float = 0.95
    """Share of probability sampled from, if temperature is above 0."""
    seed: int = 0
    """Of the sampling."""
    json: bool = False
    """One JSON document a turn."""
    config: str | None = None
    """YAML file with any of these options, like configs/chat.yaml; options on the command line win."""

    def run(self) -> int:
        """Run the chat; returns the exit status."""
        from memkv.store import MemoryStore

        with MemoryStore.open(self.store) as store:
            # Looking does not make a tenant out of a misspelt name; the default one may be looked at before it exists.
            looking = (self.list or self.resume) and self.tenant != "default"
            tenant = store.tenant(self.tenant, create=not looking)
            if self.list:
                return list_sessions(tenant, self.json)
            name = self._session_name(tenant)
            return self._talk(tenant, name)

    def _session_name(self, tenant: TenantStore) -> str:
        if self.resume and self.session:
            raise ConfigError("--resume and --session both name a session", "Give one of them.")
        if not self.resume:
            return self.session or f"chat-{datetime.now():%Y%m%d-%H%M%S}"
        known = [session for session in tenant.sessions() if session.head]  # somebody has spoken in it
        if not known:
            raise NotFound("There is no session to resume", "Start one: memkv chat --session NAME")
        return known[0].name

    def _talk(self, tenant: TenantStore, name: str) -> int:
        from memkv.model import HybridModel
        from memkv.sampling import Sampling
        from memkv.session import Session

        model = HybridModel.from_pretrained(self.model, notify=say)
        sampling = Sampling(self.temperature, self.top_p, self.seed)
        with progress("reading the stored text again") as advance:
            session = Session(
                model,
                tenant,
                name,
                context_budget=self.context_budget,
                strategy=self.strategy,
                codec=self.codec,
                system=self.system,
                rebuild=self.rebuild,
                progress=advance,
            )
        with session:
            if self.json:
                return json_loop(session, sampling, self.max_tokens)
            greet(session)
            return loop(session, sampling, self.max_tokens)


def list_sessions(tenant: TenantStore, as_json: bool) -> int:
    """All sessions of the tenant, the latest first."""
    from rich.table import Table
    from rich.text import Text

    sessions = tenant.sessions()
    if as_json:
        emit([asdict(session) for session in sessions])
        return 0
    table = Table("session", "last used", "memories", "text", "cache on disk", "model", box=None, pad_edge=False)
    for session in sessions:
        table.add_row(
            Text(session.name),
            f"{datetime.fromtimestamp(session.updated):%Y-%m-%d %H:%M}",
            str(session.memories),
            format_bytes(session.text_bytes),
            format_bytes(session.blob_bytes),
            Text(str(session.settings.get("model", ""))),
        )
    out().print(table if sessions else "No sessions yet. Start one: memkv chat --session NAME")
    return 0


def greet(session: Session) -> None:
    """How the session came up, in one line."""
    opened = session.opened
    console = err()
    if opened.how == "restored":
        text = (
            f"Session {session.name}: {opened.reused_tokens} tokens restored from {format_bytes(opened.blob_bytes)} in "
            f"{opened.seconds * 1000:.0f} ms, none read again."
        )
    elif opened.how == "rebuilt":
        text = (
            f"Session {session.name}: {opened.reason}. Its {opened.prefilled_tokens} tokens were read again from the "
            f"stored text in {opened.seconds:.1f} s."
        )
    else:
        text = f"Session {session.name}: new. Budget {format_bytes(session.context_budget)}, {session.model.name}."
    console.print(text, style="dim", markup=False)
    console.print("/help lists the commands, Ctrl-D ends the chat.", style="dim")


def loop(session: Session, sampling: Any, max_tokens: int) -> int:
    """Prompt, reply, meter, until Ctrl-D."""
    from memkv.chat.commands import run_command

    enable_line_editing()
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            sys.stdout.write("\n")
            return 0
        except KeyboardInterrupt:
            err().print("\nCtrl-D or /quit ends the chat.", style="dim")
            continue
        if not text:
            continue
        try:
            if text.startswith("/"):
                if run_command(session, text) == "quit":
                    return 0
                continue
            with progress("reading") as advance:
                reply = session.turn(
                    text, on_text=stream, max_new_tokens=max_tokens, sampling=sampling, progress=advance
                )
            sys.stdout.write("\n")
            meter(session, reply)
        except KeyboardInterrupt:
            # It may have come when the turn was durable already; what the store says counts.
            kept = catch_up(session)
            say("\nThis turn was kept." if kept else "\nTaken back: nothing of this turn was kept.")
        except Conflict as error:
            report(error)
            if catch_up(session):
                err().print("Loaded what the other writer stored; say it again if it still fits.", style="dim")
        except MemkvError as error:
            report(error)


def catch_up(session: Session) -> bool:
    """Take over what is stored if that moved on; whether it did."""
    if not session.moved:
        return False
    with progress("reading the stored text again") as advance:
        session.reload(advance)
    return True


def say(text: str) -> None:
    """A notice on standard error."""
    err().print(text, style="dim", markup=False)


def stream(text: str) -> None:
    """Show a piece of the reply at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def meter(session: Session, reply: Reply) -> None:
    """Bytes by tier after a turn, and what was read again."""
    console = err()
    usage = session.tenant.usage()
    if reply.interrupted:
        console.print("(cut off; what was written is kept)", style="dim")
    parts = (
        f"cache {size_line(reply.size)} of {format_bytes(session.context_budget)}",
        f"disk {format_bytes(reply.stored_bytes)} ({session.codec_name})",
        f"text of all sessions {format_bytes(usage.text)}",
        f"{reply.reused_tokens} tokens reused, "
        + (f"{reply.spliced_tokens} taken in as cache, " if reply.spliced_tokens else "")
        + f"{reply.prefilled_tokens} read, {reply.generated_tokens} written",
        f"first token {reply.first_token_seconds:.2f} s",
    )
    console.print(" · ".join(parts), style="dim", markup=False)
    for event in reply.events:
        if event.kind == "compaction":
            left = sum(entry["status"] != "verbatim" for entry in event.data["ledger"])
            console.print(
                f"compacted ({event.data['strategy']}): {format_bytes(event.data['before'])} to "
                f"{format_bytes(event.data['after'])}; {left} items lost their words there, /why N tells more",
                style="yellow",
                markup=False,
            )
        elif event.kind == "recalled":
            text = f"brought back from {origin(event.data)} (score {event.data['score']:.0%})"
            console.print(f"{text}, /why {event.data['memory']} tells more", style="yellow", markup=False)
        elif event.kind == "memories_left":
            console.print(too_large(event.data), style="yellow", markup=False)
        elif event.kind == "memories_failed":
            text = f"nothing of earlier sessions could be brought back: {event.data['error']}"
            console.print(text, style="yellow", markup=False)
        elif event.kind == "codec_refused":
            text = f"stored as {'+'.join(event.data['stored_as']) or 'it is'}: {event.data['error']}"
            console.print(text, style="yellow", markup=False)
        elif event.kind == "compaction_failed":
            console.print(
                f"over the budget, and compaction failed: {event.data['error']}", style="yellow", markup=False
            )


def too_large(data: Mapping[str, Any]) -> str:
    """What was near and did not come back, for people."""
    others = f", like {data['more']} more" if data["more"] else ""
    return (
        f"not brought back, as it is too large: {origin(data)} (score {data['score']:.0%}){others}. It takes "
        f"{format_bytes(data['bytes'])}, and a message may bring back {format_bytes(data['room'])}; a larger "
        "--context-budget makes room"
    )


def json_loop(session: Session, sampling: Any, max_tokens: int) -> int:
    """One message a line in, one document a turn out; the first says how the session came up."""
    emit({"session": session.name, **asdict(session.opened)})
    for line in sys.stdin:
        text = line.rstrip("\n")
        if not text.strip():
            continue
        try:
            reply = session.turn(text, max_new_tokens=max_tokens, sampling=sampling)
        except MemkvError as error:
            emit(error_data(error))
            continue
        emit(reply_data(reply))
    return 0


def reply_data(reply: Reply) -> dict[str, Any]:
    """A reply as plain data."""
    return {
        "text": reply.text,
        "cache_bytes": reply.size.payload,
        "cache_resident_bytes": reply.size.resident,
        "cache_by_kind": dict(reply.size.by_kind),
        "stored_bytes": reply.stored_bytes,
        "reused_tokens": reply.reused_tokens,
        "spliced_tokens": reply.spliced_tokens,
        "prefilled_tokens": reply.prefilled_tokens,
        "generated_tokens": reply.generated_tokens,
        "first_token_seconds": round(reply.first_token_seconds, 4),
        "seconds": round(reply.seconds, 4),
        "interrupted": reply.interrupted,
        "events": [{"kind": event.kind, "data": dict(event.data)} for event in reply.events],
    }


def enable_line_editing() -> None:
    """Arrow keys and history at the prompt; importing readline is what switches them on."""
    if sys.stdin.isatty():
        import readline

        readline.parse_and_bind("tab: complete")
