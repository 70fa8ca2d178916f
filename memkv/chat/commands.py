"""The slash commands of the chat."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from memkv.chat.life import one_line
from memkv.chat.recalled import of_last_reply
from memkv.chat.terminal import err, out, progress, size_line
from memkv.config import format_bytes
from memkv.errors import InvalidInput
from memkv.recall.stretch import text_of

if TYPE_CHECKING:
    from memkv.session import Session

HELP = """\
/memory              what this session remembers, and where each item is now
/why                 what earlier talk the last reply had before it, and why
/why N               the life of item N: where it came from, what took it out, where it can be found
/pin TEXT            keep TEXT as a rule, word for word, through every compaction
/edit N TEXT         put rule or summary N in other words
/compact [STRATEGY]  make the context smaller now: truncate, summary, pinned, pinned+summary
/preview [STRATEGY]  what that would leave, without doing it
/undo                take the last compaction back
/size                bytes by tier
/forget N            delete item N and all that was made from it, everywhere
/export FILE         this session as one file
/quit                end the chat (Ctrl-D)"""

SHOWN_TEXT = 100  # characters of an item in a listing
LONGEST_NUMBER = 9  # digits


def run_command(session: Session, line: str) -> Literal["quit", "go on"]:
    """Run one slash command.

    Raises:
        InvalidInput: unknown command, or a number or file name missing.
    """
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    match command:
        case "/quit" | "/exit":
            return "quit"
        case "/help":
            out().print(HELP, markup=False)
        case "/memory":
            show_memory(session)
        case "/why":
            show_why(session, number(rest, "/why N")) if rest else show_recalled(session)
        case "/pin":
            out().print(f"Pinned as {session.pin(rest)}.")
        case "/edit":
            n, _, text = rest.partition(" ")
            out().print(f"It is {session.edit(number(n, '/edit N TEXT'), text)} now.")
        case "/compact":
            compact(session, rest or None)
        case "/preview":
            compact(session, rest or None, preview=True)
        case "/undo":
            with err().status("reading the earlier context again"):
                size = session.undo()
            out().print(f"Taken back: {format_bytes(size)} of cache.")
        case "/size":
            show_size(session)
        case "/forget":
            forget(session, number(rest, "/forget N"))
        case "/export":
            if not rest:
                raise InvalidInput("No file was named", "Write /export FILE")
            session.tenant.export_session(session.name, Path(rest).expanduser())
            out().print(f"Exported to {rest}. Read it back with: memkv memory import {rest}", markup=False)
        case _:
            raise InvalidInput(f"There is no command {command}", "/help lists them.")
    return "go on"


def number(text: str, usage: str) -> int:
    """An item's number, as `7` or `session/7`."""
    digits = text.rpartition("/")[2]
    if not digits.isdecimal() or len(digits) > LONGEST_NUMBER:
        raise InvalidInput(f"{text!r} is not an item's number", f"Write {usage}; /memory shows the numbers.")
    return int(digits)


def show_memory(session: Session) -> None:
    """All items, marked by whether the context holds them word for word."""
    from rich.table import Table

    present = {item.n for item in session.context}
    table = Table("N", "kind", "where", "text", box=None, pad_edge=False)
    for memory in session.tenant.memories(session.name):
        kind = memory.role if memory.kind == "message" else memory.kind
        where = "context" if memory.n in present else "store only"
        table.add_row(str(memory.n), kind, where, Text(one_line(text_of(session.tenant, memory), SHOWN_TEXT)))
    out().print(table if table.row_count else "Nothing yet.")


def show_why(session: Session, n: int) -> None:
    """The life of one item; the same words as `memkv memory why`."""
    from memkv.chat.memory_command import life_of, render_life

    render_life(life_of(session.tenant, session.name, n))


def show_recalled(session: Session) -> None:
    """What was brought back for the last reply: from where, how near it was, what it takes."""
    from rich.table import Table

    from memkv.chat.chat_command import too_large

    back, left = of_last_reply(session.tenant, session.name)
    table = Table("N", "from", "when", "score", "cache", "came as", box=None, pad_edge=False)
    reasons: dict[str, int] = {}  # why one came as text or was read again -> its number
    for each in back:
        when = f"{datetime.fromtimestamp(each.said):%Y-%m-%d %H:%M}" if each.said else ""
        when = when if each.session else "this session"
        size = "" if each.nbytes is None else format_bytes(each.nbytes)
        how = ", ".join([each.came, *each.voices])  # who else speaks there: quoted, tool
        table.add_row(str(each.n), Text(each.origin), when, f"{each.score:.0%}", size, how)
        reasons.setdefault(each.why, each.n)
    out().print(table if table.row_count else "Nothing was brought back for it.")
    for why, number in reasons.items():
        if why:
            out().print(f"{number}: {why}", markup=False)
    for data in left:
        said = too_large(data)
        out().print(said[:1].upper() + said[1:] + ".", markup=False)


def compact(session: Session, strategy: str | None, preview: bool = False) -> None:
    """Compact now, or see what would come of it, and say what left."""
    with err().status("compacting"):
        found = session.compact(strategy, preview=preview)
    console = out()
    would = "It would be " if preview else ""
    console.print(f"{would}{format_bytes(found.before)} to {format_bytes(found.after)} of cache.")
    for entry in found.ledger.left():
        heirs = ", ".join(map(str, entry.found_in))
        where = f"made into {heirs}, {entry.overlap:.0%} of its words kept" if heirs else "in the store only"
        if entry.probability is not None:
            where = f"{where}; its commitments are there with {entry.probability:.0%}"
        console.print(f"  {entry.memory}: {where}", style="dim")


def show_size(session: Session) -> None:
    """Bytes by tier."""
    usage = session.tenant.usage()
    console = out()
    console.print(
        f"live cache   {size_line(session.size)} of {format_bytes(session.context_budget)}, {session.tokens} tokens"
    )
    console.print(f"in memory    {format_bytes(session.size.resident)} held by the allocator for it")
    console.print(f"on disk      {format_bytes(session.stored_bytes)} ({session.codec_name})")
    console.print(
        f"all sessions {format_bytes(usage.blobs)} of caches, {format_bytes(usage.text)} of text, "
        f"{format_bytes(usage.records + usage.tokens + usage.vectors)} of records"
    )


def forget(session: Session, n: int) -> None:
    """Forget an item and say what it cost."""
    with progress("reading the rest again") as advance:
        session.forget(n, advance)
    out().print(f"Forgotten. {session.opened.prefilled_tokens} tokens of what is left were read again.")
    err().print("Replies may quote it in their own words; /memory lists them.", style="dim")
