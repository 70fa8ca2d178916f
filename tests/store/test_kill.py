"""kill -9 anywhere: what was acknowledged is there and verifies, what was not is wholly there or wholly absent."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

import memkv.store
from memkv.errors import Conflict
from memkv.store import MemoryStore, NewEvent, NewMemory

CODE = str(Path(memkv.store.__file__).parent)
STRIDES = [pytest.param(17, id="every-17th-line"), pytest.param(1, id="every-line", marks=pytest.mark.slow)]


def commit_next(tenant, tag=b""):
    """Commit number `head + 1`; text, event, tokens and blob all tell their number."""
    record = tenant.session("s")
    n = record.head + 1
    return tenant.commit(
        "s",
        record.head,
        memories=[NewMemory(f"turn {n}", data={"tag": tag.decode()})],
        events=[NewEvent("turn", {"memory": n})],
        context=(*record.context[-3:], n),
        tokens=b"%d" % n,
        fingerprint={"n": str(n)},
        blob=[b"blob %d " % n, tag, random.Random(n).randbytes(5000)],
    )


def check_whole(tenant):
    """The session is exactly what its last commit made it; its head."""
    record = tenant.session("s")
    n = record.head
    assert [m.text for m in tenant.memories("s")] == [f"turn {i}" for i in range(1, n + 1)]
    assert [e.data for e in tenant.events("s")] == [{"memory": i} for i in range(1, n + 1)]
    assert record.next_n == n + 1 and record.context[-1:] == ((n,) if n else ())
    if n:
        assert record.tokens == b"%d" % n and record.fingerprint == {"n": str(n)}
        tag = tenant.memory("s", n).data["tag"].encode()
        assert bytes(tenant.read_blob("s")) == b"blob %d " % n + tag + random.Random(n).randbytes(5000)
    return n


def check_clean(store):
    store.gc()
    assert store.verify() == []
    assert store.gc().found_nothing


def run_killed_at(line, work):
    """Fork, run `work(pipe)` there, SIGKILL it at its `line`-th line inside memkv/store; (finished, what it wrote)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            work(writer, lambda: trace_to(line))
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.WEXITSTATUS(status) == 0, "the child failed; see its traceback above"
    return not killed, said


def trace_to(line):
    """From here on, count executed lines of memkv/store and die at number `line`."""
    left = line

    def tracer(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return tracer

    sys.settrace(tracer)


@pytest.mark.parametrize("stride", STRIDES)
def test_kill_at_every_line_of_a_commit(folder, stride):
    with MemoryStore.open(folder) as store:
        store.tenant("ada").create_session("s", {})
        commit_next(store.tenant("ada"))

    def work(pipe, start_tracing):
        store = MemoryStore.open(folder)
        tenant = store.tenant("ada")
        start_tracing()
        record = commit_next(tenant)
        sys.settrace(None)
        os.write(pipe, b"%d" % record.head)
        store.close()

    line, head, absent, present, finished = 1, 1, 0, 0, False
    while not finished:
        finished, said = run_killed_at(line, work)
        with MemoryStore.open(folder) as store:
            now = check_whole(store.tenant("ada"))
            assert now in (head, head + 1)
            assert now == int(said or now)
            absent, present = absent + (now == head), present + (now > head and not finished)
            check_clean(store)
            assert check_whole(store.tenant("ada")) == now
        head, line = now, line + stride
    assert absent > 3 and present > 1, "both sides of the COMMIT were hit"


@pytest.mark.parametrize("stride", [pytest.param(17, id="quick"), pytest.param(4, id="dense", marks=pytest.mark.slow)])
def test_kill_during_a_forget(folder, helpers, stride):
    def work(pipe, start_tracing):
        store = MemoryStore.open(folder)
        tenant = store.tenant("ada")
        start_tracing()
        tenant.forget_memory("s", tenant.session("s").next_n - 1)
        sys.settrace(None)
        os.write(pipe, b"ok")

    line, finished = 1, False
    while not finished:
        secret = f"secret {line}."
        with MemoryStore.open(folder) as store:
            record = helpers.turn(store.tenant("ada"), "s", secret, blob=b"kv of " + secret.encode())
        finished, said = run_killed_at(line, work)
        if said:
            assert helpers.files_with(folder, secret.encode()) == []
        with MemoryStore.open(folder) as store:
            tenant = store.tenant("ada")
            check_clean(store)
            if record.next_n - 1 in tenant.session("s").context:
                assert not said and tenant.memory("s", record.next_n - 1).text == secret
                assert bytes(tenant.read_blob("s")) == b"kv of " + secret.encode()
                tenant.forget_memory("s", record.next_n - 1)
            assert helpers.files_with(folder, secret.encode()) == []
        line += stride


@pytest.mark.parametrize("stride", [pytest.param(40, id="quick"), pytest.param(3, id="dense", marks=pytest.mark.slow)])
def test_kill_during_an_import(folder, tmp_path, helpers, stride):
    with MemoryStore.open(folder) as store:
        helpers.turn(store.tenant("ada"), "s", "exported", blob=b"kv" * 3000)
        store.tenant("ada").export_session("s", tmp_path / "x")

    def work(pipe, start_tracing):
        tenant = MemoryStore.open(folder).tenant("ada")
        start_tracing()
        tenant.import_session(tmp_path / "x", "copy")
        sys.settrace(None)
        os.write(pipe, b"ok")

    line, finished = 1, False
    while not finished:
        finished, said = run_killed_at(line, work)
        with MemoryStore.open(folder) as store:
            tenant = store.tenant("ada")
            assert tenant.exists("copy") or not said
            check_clean(store)
            if tenant.exists("copy"):
                assert bytes(tenant.read_blob("copy")) == b"kv" * 3000 and tenant.memory("copy", 1).text == "exported"
                tenant.forget_session("copy")
        line += stride


def hammer(folder, writer_id, pipe):
    store = MemoryStore.open(folder)
    tenant = store.tenant("ada")
    while True:
        try:
            record = commit_next(tenant, b"w%d" % writer_id)
        except Conflict:
            continue
        os.write(pipe, b"%d %d\n" % (record.head, writer_id))


@pytest.mark.parametrize("rounds", [pytest.param(4, id="quick"), pytest.param(25, id="long", marks=pytest.mark.slow)])
def test_kill_two_writers_at_random_times(folder, rounds):
    with MemoryStore.open(folder) as store:
        store.tenant("ada").create_session("s", {})
    chance, winners = random.Random(11), set()
    for _ in range(rounds):
        reader, writer = os.pipe()
        children = []
        for writer_id in range(2):
            child = os.fork()
            if child == 0:
                try:
                    hammer(folder, writer_id, writer)
                finally:
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
            children.append(child)
        os.close(writer)
        time.sleep(0.15 + chance.random() * 0.3)
        for child in children:
            os.kill(child, signal.SIGKILL)
            time.sleep(chance.random() * 0.02)
        with os.fdopen(reader) as pipe:
            acknowledged = [tuple(map(int, line.split())) for line in pipe if line.endswith("\n")]
        assert all(os.WIFSIGNALED(os.waitpid(child, 0)[1]) for child in children)
        with MemoryStore.open(folder) as store:
            tenant = store.tenant("ada")
            head = check_whole(tenant)
            assert acknowledged and len({n for n, _ in acknowledged}) == len(acknowledged)
            for n, writer_id in acknowledged:
                assert n <= head and tenant.memory("s", n).data["tag"] == f"w{writer_id}"
            winners |= {writer_id for _, writer_id in acknowledged}
            check_clean(store)
            check_whole(tenant)
    assert winners == {0, 1}
