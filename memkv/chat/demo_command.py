"""`memkv demo`: the main job, played in front of you on the embedded model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from memkv.chat.terminal import emit
from memkv.config import format_bytes
from memkv.errors import MemkvError

LINE = 88  # characters of a reply that are shown


class DemoFailed(MemkvError):
    """A process of the demo ended before it was done."""


@dataclass
class Story:
    """What the two processes said, by step."""

    steps: list[dict[str, Any]] = field(default_factory=list)

    def of(self, step: str) -> list[dict[str, Any]]:
        """All lines of one step."""
        return [line for line in self.steps if line["step"] == step]


@dataclass(frozen=True)
class Demo:
    """Teach six rules, kill the process, restore in another, and show what is the same and what it took.

    Runs in a folder of its own, which is removed at the end. It prints what is true on this run.
    """

    json: bool = False
    """One JSON document instead of the play."""

    def run(self) -> int:
        """Play it; 1 if the restored conversation is not the same to the last bit."""
        show = Console(file=sys.stderr if self.json else sys.stdout, highlight=False, soft_wrap=True, quiet=self.json)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="memkv-demo-") as folder:
            first = self._teach(show, folder)
            second = self._recall(show, folder)
        same = judge(show, first, second)
        show.print(f"\n{time.perf_counter() - began:.0f} s in all. Your own: memkv chat --session NAME")
        if self.json:
            emit({"first": first.steps, "second": second.steps, "same": same})
        return 0 if same else 1

    def _teach(self, show: Console, store: str) -> Story:
        show.rule("1. A process teaches the model six rules and talks about other things", align="left")
        story = Story()
        with child("teach", store) as process:
            for line in lines(process, show):
                story.steps.append(line)
                tell_teaching(show, line, len(story.of("turn")))
                if line["step"] == "speaking":
                    os.kill(process.pid, signal.SIGKILL)
                    break
            else:
                raise DemoFailed("The first process ended before it could be killed", "Run `memkv doctor`.")
            status = process.wait()
        show.print(f"kill -9 in the middle of a sentence: the process is gone (status {status}).", style="bold red")
        show.print("Nothing of that last turn was acknowledged, so nothing of it may come back.")
        return story

    def _recall(self, show: Console, store: str) -> Story:
        show.rule("2. Another process goes on", align="left")
        story = Story()
        with child("recall", store) as process:
            for line in lines(process, show):
                story.steps.append(line)
                tell_recalling(show, line)
            if process.wait() != 0:
                raise DemoFailed("The second process failed, see above", "Run `memkv doctor`.")
        return story


@contextmanager
def child(act: str, store: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own for one act; ended with the block, whatever happens."""
    command = [sys.executable, "-m", "memkv.chat.demo_child", act, str(Path(store) / "store")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(process: subprocess.Popen[str], show: Console) -> Iterator[dict[str, Any]]:
    """The JSON lines that the process prints, a spinner while it works."""
    assert process.stdout is not None
    with show.status("working") if show.is_terminal and not show.quiet else nullcontext():
        for text in process.stdout:
            yield json.loads(text)


def tell_teaching(show: Console, line: dict[str, Any], turn: int) -> None:
    """One line of the first act."""
    if line["step"] == "notice":
        show.print(line["text"], style="dim")
    elif line["step"] == "turn":
        what = "the policy" if turn == 1 else f"filler {turn - 1}"
        show.print(
            f"{what:>10}: {line['read']:>4} tokens read, {line['reused']:>4} reused; "
            f"cache {format_bytes(line['cache']):>8}, on disk {format_bytes(line['disk']):>8}"
        )
        show.print(f"{'model':>10}: {short(line['reply'])}", style="dim", markup=False)
    elif line["step"] == "taught":
        show.print(f"{'probes':>10}: {score(line)} right, just after it was taught", style="bold")
    elif line["step"] == "probes":
        show.print(f"{'probes':>10}: {score(line)} right after all that talk, before the kill", style="bold")


def tell_recalling(show: Console, line: dict[str, Any]) -> None:
    """One line of the second act."""
    if line["step"] == "opened":
        show.print(
            f"{line['how']}: reused_tokens={line['reused_tokens']}, read again: {line['prefilled_tokens']}, "
            f"{format_bytes(line['blob_bytes'])} in {line['seconds'] * 1000:.0f} ms"
        )
    elif line["step"] == "probes":
        show.print(f"probes: {score(line)} right after the restore", style="bold")


def judge(show: Console, first: Story, second: Story) -> bool:
    """Compare the two acts and print the tables; True if the conversation is the same to the last bit."""
    before, after = first.of("proof")[0], second.of("proof")[0]
    right_before, right_after = first.of("probes")[0]["right"], second.of("probes")[0]["right"]
    same = all(before[key] == after[key] for key in ("tokens", "logits", "length")) and right_before == right_after
    show.rule("3. Is it the same conversation?", align="left")
    checks = Table("check", "before the kill", "after the restore", "same", box=None, pad_edge=False)
    rows = (
        ("tokens in the conversation", before["length"], after["length"]),
        ("hash of the next logits", before["logits"], after["logits"]),
        ("next 32 greedy tokens", short(before["text"], 30), short(after["text"], 30)),
        ("probes right", score(first.of("probes")[0]), score(second.of("probes")[0])),
    )
    for name, old, new in rows:
        checks.add_row(name, str(old), str(new), "[green]yes[/]" if old == new else "[red]NO[/]")
    show.print(checks)
    show.rule("4. What it costs to keep", align="left")
    table = Table("codec", "bytes", "of the cache", "probes right", box=None, pad_edge=False)
    full = next(line["bytes"] for line in second.of("codec") if line["codec"] == "identity")
    for line in second.of("codec"):
        table.add_row(line["codec"], format_bytes(line["bytes"]), f"{line['bytes'] / full:.0%}", score(line))
    table.add_row("no policy at all", "", "", score(second.of("without")[0]))
    show.print(table)
    timing = second.of("first token")[0]
    show.rule("5. Time to the first token of the next reply", align="left")
    ms = {name: seconds * 1000 for name, seconds in timing.items() if name != "step"}
    show.print(f"from the stored cache {ms['from_cache']:6.0f} ms, of which restore {ms['restore']:.0f} ms")
    show.print(f"by reading it again   {ms['from_text']:6.0f} ms, of which prefill {ms['prefill']:.0f} ms")
    show.print(
        f"{timing['from_text'] / timing['from_cache']:.1f} × sooner; restore alone is "
        f"{timing['prefill'] / timing['restore']:.0f} × faster than prefill (one reading; `make bench` gives medians)."
    )
    tell_another_day(show, second.of("another day")[0], score(second.of("without")[0]))
    return same


def tell_another_day(show: Console, line: dict[str, Any], without: str) -> None:
    """What a new conversation knew of the old one."""
    show.rule("6. Another day, a new conversation, which never read the policy", align="left")
    for memory in line["memories"]:
        show.print(f"came back from {memory['session']!r}, nearness {memory['score']:.2f}", markup=False)
    show.print(
        f"{line['spliced']} tokens came in as cache, {line['read']} were read (the message, and the seams); first "
        f"token after {line['first_token'] * 1000:.0f} ms"
    )
    show.print(f"probes: {score(line)} right; without any memory {without}", style="bold")


def score(line: dict[str, Any]) -> str:
    """`7 of 12`."""
    return f"{sum(line['right'])} of {len(line['right'])}"


def short(text: str, length: int = LINE) -> str:
    """One line, cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"
