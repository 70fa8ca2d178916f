"""The chat as people use it: real processes, real pipes and terminals, the embedded model."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.keeps_home]
MEMKV = [sys.executable, "-m", "memkv.chat.cli"]
PATIENCE = 120  # seconds; two busy cores
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")  # colours and cursor moves are no letters of a reply


def chat(store: Path, *messages: str, options: tuple[str, ...] = ()) -> list[dict]:
    command = [*MEMKV, "chat", "--store", str(store), "--json", "--max-tokens", "8", *options]
    done = subprocess.run(command, input="\n".join(messages), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def memkv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MEMKV, *arguments], capture_output=True, text=True, timeout=PATIENCE)


def test_a_conversation_goes_on_in_the_next_process(store_folder: Path) -> None:
    opened, first, second = chat(store_folder, "Our editor is called Ada.", "Thanks.", options=("--session", "s"))
    assert (opened["how"], first["reused_tokens"]) == ("new", 0)
    assert second["reused_tokens"] == first["reused_tokens"] + first["prefilled_tokens"] + first["generated_tokens"]
    opened, third = chat(store_folder, "Who is our editor?", options=("--resume",))
    assert (opened["session"], opened["how"], opened["prefilled_tokens"]) == ("s", "restored", 0)
    assert third["reused_tokens"] == opened["reused_tokens"]
    listed = json.loads(memkv("chat", "--list", "--json", "--store", str(store_folder)).stdout)
    assert [(session["name"], session["memories"]) for session in listed] == [("s", 6)]


def test_errors_are_one_line_that_says_what_to_do(store_folder: Path) -> None:
    for arguments, says in (
        (("chat", "--resume", "--store", str(store_folder)), "memkv chat --session"),
        (("chat", "--model", "no/such-model", "--store", str(store_folder)), "smollm2-135m"),
        (("memory", "show", "s/1", "--store", str(store_folder)), "memkv memory ls"),
    ):
        done = memkv(*arguments)
        assert done.returncode == 1
        assert says in done.stderr
        assert "Traceback" not in done.stderr


class Terminal:
    """A chat on a terminal of its own."""

    def __init__(self, store: Path) -> None:
        self.leader, follower = pty.openpty()
        command = [*MEMKV, "chat", "--store", str(store), "--session", "s", "--max-tokens", "200"]
        self.process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True, close_fds=True
        )
        os.close(follower)
        self.seen = self.log = ""

    def type(self, text: str) -> None:
        os.write(self.leader, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until `text` is there; what was read up to it is done with."""
        until = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < until, f"no {text!r} in {self.seen!r}"
            if select.select([self.leader], [], [], 0.2)[0]:
                try:
                    new = os.read(self.leader, 4096).decode(errors="replace")
                except OSError:
                    new = "(closed)"
                self.seen += new
                self.log += new
        self.seen = self.seen.partition(text)[2]

    def wait_for_reply(self) -> None:
        """Read until a reply has begun: a letter after what was read so far. The rest of it takes seconds."""
        until = time.monotonic() + PATIENCE
        while not any(letter.isalpha() for letter in CONTROL.sub("", self.seen)):
            assert time.monotonic() < until, f"no reply in {self.seen!r}"
            if select.select([self.leader], [], [], 0.2)[0]:
                new = os.read(self.leader, 4096).decode(errors="replace")
                self.seen += new
                self.log += new

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.leader)


def test_ctrl_c_cuts_the_reply_kill_loses_only_the_unfinished_turn(store_folder: Path) -> None:
    terminal = Terminal(store_folder)
    terminal.wait_for("> ")
    terminal.type("Write a long story about a lighthouse.\n")
    terminal.wait_for("lighthouse.")  # the echo
    terminal.wait_for_reply()
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.wait_for("tokens reused")
    terminal.wait_for("> ")
    terminal.type("/pin The keeper is called Mo.\n")
    terminal.wait_for("Pinned as")
    terminal.type("/memory\n")
    terminal.wait_for("store only")
    terminal.wait_for("> ")
    terminal.type("/why 1\n")
    terminal.wait_for("> ")
    terminal.type("/nonsense\n")
    terminal.wait_for("/help lists them")
    terminal.wait_for("> ")
    terminal.type("And a longer one.\n")
    terminal.wait_for("longer one.")
    terminal.wait_for_reply()
    terminal.end()
    opened, reply = chat(store_folder, "Go on.", options=("--session", "s"))
    assert (opened["how"], opened["prefilled_tokens"]) == ("restored", 0)
    listed = json.loads(memkv("memory", "ls", "s", "--json", "--store", str(store_folder)).stdout)
    texts = [memory["text"] for memory in listed["memories"]]
    assert texts[1][:40] in terminal.log.replace("\r\n", "\n")  # streamed in one piece, not a token a line
    assert "The keeper is called Mo." in texts
    assert "And a longer one." not in texts
    assert json.loads(memkv("memory", "verify", "--json", "--store", str(store_folder)).stdout) == {"problems": []}


def test_doctor_finds_nothing_wrong_here(store_folder: Path) -> None:
    chat(store_folder, "Hello.", options=("--session", "s"))
    done = memkv("doctor", "--json", "--store", str(store_folder))
    findings = json.loads(done.stdout)
    assert done.returncode == 0, [finding for finding in findings if finding["ok"] is False]
    assert any("exact" in finding["found"] for finding in findings)


def test_the_demo_ends_with_the_same_conversation() -> None:
    done = subprocess.run([*MEMKV, "demo", "--json"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    played = json.loads(done.stdout)
    assert played["same"] is True
    steps = [line["step"] for line in played["first"]]
    assert steps.count("turn") == 7
    assert steps[-1] == "speaking"
    opened = next(line for line in played["second"] if line["step"] == "opened")
    assert opened["prefilled_tokens"] == 0
    later = next(line for line in played["second"] if line["step"] == "another day")
    assert later["memories"] and {memory["session"] for memory in later["memories"]} == {"editorial"}
    assert later["spliced"] > 2 * later["read"]
