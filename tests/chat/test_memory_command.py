"""`memkv memory ...` as a user types it, in real processes where the exit status counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import tyro

from memkv.chat.memory_command import MemoryCommand
from memkv.errors import Conflict, InvalidInput, NotFound
from memkv.store import MemoryStore, NewEvent, NewMemory

EVIL = "\x1b[31mred\x1b[0m [bold]not markup[/bold]"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A store with one conversation that was compacted: 1 and 2 went into summary 3, 4 is in the context."""
    monkeypatch.setenv("MEMKV_STORE_URL", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")
    with MemoryStore.open() as store:
        tenant = store.tenant("default")
        tenant.create_session("editorial", {"model": "tiny"})
        first = [NewMemory("No anonymous sources.", role="user"), NewMemory(EVIL, role="assistant")]
        tenant.commit("editorial", 0, memories=first, context=[1, 2], tokens=b"1234", blob=[b"kv" * 1000])
        ledger = [
            {"memory": 1, "status": "paraphrased", "found_in": [3], "probability": 0.75},
            {"memory": 2, "status": "store_only", "found_in": [], "probability": None},
        ]
        tenant.commit(
            "editorial",
            1,
            memories=[NewMemory("Sources are named.", "summary", sources=(1, 2)), NewMemory("Next?", role="user")],
            events=[NewEvent("compaction", {"strategy": "summary", "before": 4096, "after": 1024, "ledger": ledger})],
            context=[3, 4],
            tokens=b"12",
            blob=[b"kv" * 500],
        )
    return tmp_path / "store"


def run(*arguments):
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    return tyro.cli(MemoryCommand, args=list(arguments), config=config).run()


@pytest.fixture
def say(folder, capsys):
    """Run a command; what it printed."""

    def call(*arguments, status=0):
        assert run(*arguments) == status
        return capsys.readouterr().out

    return call


def test_ls_lists_sessions_memories_and_tenants(say):
    text = say("ls")
    assert "editorial" in text and "1000 B" in text
    found = json.loads(say("ls", "--json"))
    assert found["sessions"][0]["memories"] == 4 and found["usage"]["blobs"] == 1000
    page = json.loads(say("ls", "editorial", "--json", "--limit", "3"))
    assert [m["in_context"] for m in page["memories"]] == [False, False, True] and page["more"]
    assert "--offset 3" in say("ls", "editorial", "--limit", "3")
    assert [m["n"] for m in json.loads(say("ls", "editorial", "--json", "--kind", "summary"))["memories"]] == [3]
    assert json.loads(say("ls", "--tenants", "--json"))[0]["id"] == "default"


def test_texts_cannot_steer_the_terminal(say):
    for printed in (say("ls", "editorial"), say("show", "editorial/2"), say("why", "editorial/2")):
        assert "\x1b" not in printed and r"\x1b[31mred" in printed and "[bold]not markup[/bold]" in printed
    assert json.loads(say("show", "editorial/2", "--json"))["text"] == EVIL


def test_why_tells_what_became_of_a_memory(say):
    text = say("why", "editorial/1")
    assert "Went into summary 3, in the context" in text and "paraphrased (in 3)" in text and "75%" in text
    assert "4.00 KiB to 1.00 KiB" in text and "memkv memory show editorial/1" in text
    life = json.loads(say("why", "editorial/1", "--json"))
    assert life["left"] == life["compactions"][0]["when"] and not life["in_context"]
    assert life["compactions"][0]["found_in"] == [3] and len(life["found"]) == 2
    kept = json.loads(say("why", "editorial/4", "--json"))
    assert kept["in_context"] and kept["left"] is None and kept["found"][0] == "in the context, word for word"
    assert "Made from 1, 2" in say("why", "editorial/3")


def test_forget_says_what_goes_along_and_wants_a_yes(say):
    with pytest.raises(InvalidInput, match="with it 3.*--yes"):
        run("forget", "editorial/1")
    assert json.loads(say("forget", "editorial/1", "--yes", "--json"))["forgotten"]["memories"] == [1, 3]
    with pytest.raises(NotFound, match="was forgotten on"):
        run("why", "editorial/3")
    with pytest.raises(InvalidInput):
        run("forget")
    say("forget", "editorial", "--yes")
    with pytest.raises(NotFound):
        run("ls", "editorial")
    say("forget", "--whole-tenant", "--yes")
    assert json.loads(say("ls", "--tenants", "--json")) == []


def test_export_and_import(say, tmp_path):
    path = str(tmp_path / "e.memkv")
    assert json.loads(say("export", "editorial", path, "--json"))["bytes"] == os.path.getsize(path)
    with pytest.raises(Conflict, match="--force"):
        run("export", "editorial", path)
    with pytest.raises(Conflict, match="--name"):
        run("import", path)
    say("import", path, "--name", "copy")
    assert json.loads(say("import", path, "--tenant", "bob", "--json"))["session"] == "editorial"
    assert json.loads(say("ls", "copy", "--json"))["memories"][0]["text"] == "No anonymous sources."


def test_verify_and_gc(say, folder):
    assert "as it was written" in say("verify") and "Nothing to collect" in say("gc")
    (folder / "blobs" / "tmp" / "left").write_bytes(b"x" * 2048)
    assert json.loads(say("verify", "--json", status=1))["problems"][0]["kind"] == "temp_file"
    assert "memkv memory gc" in say("verify", status=1)
    assert "1 temp files (2.00 KiB freed)" in say("gc")
    assert json.loads(say("gc", "--json"))["found_nothing"] and json.loads(say("verify", "--json")) == {"problems": []}


def test_a_real_process_prints_only_json_on_stdout(folder):
    code = f"import sys; sys.argv[0] = 'x'; from {__name__} import run; sys.exit(run('verify', '--json'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.path.dirname(__file__)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"problems": []}, "")
