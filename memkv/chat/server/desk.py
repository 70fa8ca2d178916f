"""The one thread that runs the model, and what it has in memory: caches of sessions and of plain conversations.

Jobs of all clients run one after the other, in the order in which they came: a model on one machine is one resource,
and nobody starves. Caches are held while they fit the byte budget; those used longest ago are let go of, as every turn
is in the store already, and come back from there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from memkv.chat.server.problems import Busy, Cancelled, Overloaded, TooMany
from memkv.config import format_bytes, parse_bytes
from memkv.errors import InvalidInput, MemkvError, NotFound
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.session import Session
from memkv.session.session import DEFAULT_BUDGET
from memkv.store import MemoryStore, TenantStore
from memkv.turns import Message

T = TypeVar("T")
Key = tuple[str, str]  # tenant, session
Said = tuple[tuple[str, str], ...]  # role and text of each message
Place = tuple[str, str | Said]  # tenant, and a session's name or what a plain conversation has read


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    Attributes:
        live_bytes: of all caches in memory.
        waiting: jobs that may wait for the model.
        sessions: of one tenant.
    """

    live_bytes: int = 1 << 30
    waiting: int = 256
    sessions: int = 10_000


class Stop:
    """Tells a running turn to end, from another thread."""

    def __init__(self) -> None:
        self._told = threading.Event()

    def set(self) -> None:
        """End it."""
        self._told.set()

    def check(self, *_: object) -> None:
        """Called from the turn at every piece of text and of reading; ends it as Ctrl-C does in a terminal."""
        if self._told.is_set():
            raise KeyboardInterrupt


class Desk:
    """See the module. All methods but `run` and `submit` are for the model's thread.

    Args:
        model: that answers.
        store: of all tenants.
        limits: see `Limits`.
    """

    def __init__(self, model: HybridModel, store: MemoryStore, limits: Limits) -> None:
        self.model, self.store, self.limits = model, store, limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memkv-model")
        self._held: OrderedDict[Place, Session | LiveCache] = OrderedDict()  # those used last at the end
        self._bytes: dict[Place, int] = {}  # of each
        self._left: dict[str, dict[Key, None]] = {}  # sessions that each tenant used, and may have left
        self._taken: set[Key] = set()  # sessions with a job that runs or waits
        self._lock = threading.Lock()
        self.waiting = 0

    def close(self) -> None:
        """Wait for the job that runs, drop those that wait, and let go of all caches."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._held.clear()

    # -- jobs

    def submit(self, job: Callable[[], T], key: Key | None = None) -> Future[T]:
        """Let the model's thread do it; with a key, nothing else for that session until it is done.

        Raises:
            Busy: the session has a job already.
            Overloaded: too many wait.
        """
        with self._lock:
            if key is not None and key in self._taken:
                raise Busy(f"Session {key[1]!r} is answering another message", "Wait for that, or stop it.")
            if self.waiting >= self.limits.waiting:
                raise Overloaded(f"{self.waiting} requests wait for the model", "Try again in a while.")
            self.waiting += 1
            if key is not None:
                self._taken.add(key)

        def done(_: Future[T]) -> None:
            with self._lock:
                self.waiting -= 1
                if key is not None:
                    self._taken.discard(key)

        future = self._thread.submit(self._guarded, job)
        future.add_done_callback(done)
        return future

    async def run(self, job: Callable[[], T], key: Key | None = None) -> T:
        """`submit`, and wait for what comes of it."""
        return await asyncio.wrap_future(self.submit(job, key))

    def _guarded(self, job: Callable[[], T]) -> T:
        """The job, and caches within the budget afterwards. A KeyboardInterrupt would end the whole server."""
        try:
            return job()
        except KeyboardInterrupt as error:
            raise Cancelled("Stopped before there was an answer", "Nothing of this turn was kept.") from error
        finally:
            self._trim()

    # -- sessions

    def session(self, key: Key, options: Mapping[str, Any], create: bool) -> Session:
        """The session, from memory or the store, as whoever wrote there last left it.

        Args:
            key: tenant and name.
            options: of `Session`; where one differs from the open session's own, it is opened again.
            create: make it if there is none.

        Raises:
            NotFound: there is none, and `create` is False.
            TooMany: the tenant has as many as it may.
            MemkvError: as `Session` does.
        """
        tenant = self.store.tenant(key[0])
        self._leave(key)
        held = self.held(key)
        if held is not None and (differs(held, options) or not tenant.exists(key[1])):
            self.drop(key)
            held = None
        if held is None:
            self._make_room(tenant, key[1])
            options = {**options, **self._budget(tenant, key[1], options)}
            if not tenant.exists(key[1]):
                if not create:
                    raise NotFound(f"There is no session {key[1]!r}", "GET /api/sessions lists those that there are.")
                self.check_count(tenant)
            held = Session(self.model, tenant, key[1], **options)
        elif held.moved:
            held.reload()
        self._hold(key, held)
        return held

    def check_count(self, tenant: TenantStore) -> None:
        """Refuse one session more than a tenant may have.

        Raises:
            TooMany: it has as many.
        """
        if len(tenant.sessions()) >= self.limits.sessions:
            raise TooMany(f"There are {self.limits.sessions} sessions already", "Forget some first.")

    def _budget(self, tenant: TenantStore, name: str, options: Mapping[str, Any]) -> dict[str, int]:
        """A context budget where the session's own is more than all caches may take.

        Raises:
            InvalidInput: the request asks for more.
        """
        most = self.limits.live_bytes
        if (asked := options.get("context_budget")) is not None:
            if parse_bytes(asked) > most:
                raise InvalidInput(
                    f"A context budget of {asked} is more than the {format_bytes(most)} that this server holds",
                    "Ask for less.",
                )
            return {}
        stored = tenant.session(name).settings if tenant.exists(name) else {}
        own = parse_bytes(stored.get("context_budget", DEFAULT_BUDGET))
        return {"context_budget": most} if own > most else {}

    def _leave(self, key: Key) -> None:
        """Make memories of the sessions that the tenant used before, as if they were over: this one may ask for them.

        Only while nobody waits; till then they are what was said, and are found by the next session that begins.
        """
        self._left.setdefault(key[0], {})[key] = None
        if self.waiting > 1:
            return
        for before in [each for each in self._left[key[0]] if each != key]:
            del self._left[key[0]][before]
            session = self.held(before)
            if session is not None:
                with suppress(MemkvError):  # what is missing is made by whoever comes next
                    session.long_term.remember(session.name, finished=True)

    def _make_room(self, tenant: TenantStore, name: str) -> None:
        """Let go of others before a cache is read from the store."""
        blob = tenant.session(name).blob if tenant.exists(name) else None
        while self._held and self.live_bytes + (blob.length if blob else 0) > self.limits.live_bytes:
            self.drop(next(iter(self._held)))

    def drop(self, place: Place) -> None:
        """Let go of a cache; a session's is in the store."""
        self._held.pop(place, None)
        self._bytes.pop(place, None)

    def held(self, key: Key) -> Session | None:
        """The session if it is in memory."""
        found = self._held.get(key)
        return found if isinstance(found, Session) else None

    def discard_empty(self, key: Key) -> None:
        """Forget a session in which nothing was ever said: it was made for a turn that failed."""
        self.drop(key)
        with suppress(MemkvError):
            tenant = self.store.tenant(key[0], create=False)
            if tenant.exists(key[1]) and tenant.session(key[1]).head == 0:
                tenant.forget_session(key[1])

    # -- plain conversations

    def take_plain(self, tenant: str, messages: Sequence[Message]) -> tuple[LiveCache, int]:
        """The cache of the longest beginning of a conversation that is held, and how many messages it has read.

        It is a fork: the one that is held may be continued in another way later.
        """
        said = as_key(messages)
        for count in range(len(said) - 1, 0, -1):
            live = self._held.get((tenant, said[:count]))
            if isinstance(live, LiveCache):
                return live.fork(), count
        return self.model.new_cache(), 0

    def keep_plain(self, tenant: str, messages: Sequence[Message], live: LiveCache) -> None:
        """Hold a cache that has read these messages; that of their beginning stays too, as long as there is room."""
        self._hold((tenant, as_key(messages)), live)

    # -- what is held

    @property
    def live_bytes(self) -> int:
        """Of all caches in memory."""
        return sum(list(self._bytes.values()))

    @property
    def live_sessions(self) -> int:
        """Sessions whose caches are in memory."""
        return sum(isinstance(each, Session) for each in list(self._held.values()))

    def _hold(self, place: Place, held: Session | LiveCache) -> None:
        """As the one used last."""
        self._held[place] = held
        self._held.move_to_end(place)

    def _trim(self) -> None:
        """Let go of what was used longest ago, until the rest fits the budget; the one used last stays in any case.

        That one alone is measured again: a job changes no other cache.
        """
        if self._held:
            place, last = next(reversed(self._held.items()))
            self._bytes[place] = (last.size if isinstance(last, Session) else last.size()).payload
        while self.live_bytes > self.limits.live_bytes and len(self._held) > 1:
            self.drop(next(iter(self._held)))


def differs(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether any option is not as the open session has it."""
    own = {"strategy": session.strategy.name, "codec": session.codec_name}
    same = {name: value == own[name] for name, value in options.items() if name in own}
    if "context_budget" in options:
        same["context_budget"] = parse_bytes(options["context_budget"]) == session.context_budget
    return not all(same.values())


def as_key(messages: Sequence[Message]) -> Said:
    """Messages as something that can be looked up."""
    return tuple((message["role"], message["content"]) for message in messages)
