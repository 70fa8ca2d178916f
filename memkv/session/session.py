"""Session: one conversation that outlives its process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType

from memkv.cache_size import CacheSize
from memkv.compaction import Compaction, Item, default_strategy
from memkv.compaction import strategy as strategy_by_name
from memkv.compress import codec as codec_by_name
from memkv.config import parse_bytes
from memkv.errors import InvalidInput, MemkvError
from memkv.live import LiveCache
from memkv.model import HybridModel, Progress
from memkv.sampling import Sampling
from memkv.session import changing
from memkv.session.answering import OnText, answer, log_turn, settle
from memkv.session.at_rest import at_rest
from memkv.session.bringing import bring_memories, bring_stretches, room_for_recall, up_to_whole
from memkv.session.long_term import LongTerm
from memkv.session.opening import items_of, open_cache, token_bytes
from memkv.session.records import Draft, Reply
from memkv.session.room import AIM, check_budget, check_message
from memkv.snapshot_file import to_buffers
from memkv.store import NewEvent, NewMemory, TenantStore
from memkv.turns import Message

DEFAULT_BUDGET = "64 MiB"
DEFAULT_CODEC = "identity"
SYSTEM = "system"  # among the settings of a session in which nothing was said yet


class Session:
    """A conversation with a model, kept in a tenant's store under a name.

    Args:
        model: the model to talk to.
        tenant: whose memory it is, from `store.tenant(id)`.
        name: an existing session is restored, else a new one starts.
        context_budget: most bytes of live cache after a turn, as a number or like `16 MiB`.
        strategy: compaction strategy: truncate, summary, pinned, pinned+summary, trained, pinned+trained, or
            trained:FOLDER. Of a new session: `pinned+trained` on the model that memkv's policy was trained on, else
            pinned+summary.
        codec: how the cache is stored at rest: identity, fp8, int8, int4 and others (see `memkv.compress`).
        system: system prompt of a new session.
        recall: bring text that left the context back before a message that touches it (logged as `recalled`).
        memories: bring back what the tenant's other sessions said about a message, and make memories of this one.
        rebuild: read the stored text again where the stored cache belongs to another model, instead of raising.
        progress: called with (tokens done, tokens in all) while text is read again.
        Options left out keep what the session was made with.

    Raises:
        FingerprintMismatch: the cache belongs to another model and `rebuild` is off.
        BudgetExceeded: the context budget does not hold the system prompt and one short exchange.
        InvalidInput: a system prompt for a session that has begun.
        ConfigError: unknown strategy or codec.
    """

    _closed: bool
    _notes: list[NewEvent]  # to be logged with the next commit

    def __init__(
        self,
        model: HybridModel,
        tenant: TenantStore,
        name: str,
        *,
        context_budget: int | str | None = None,
        strategy: str | None = None,
        codec: str | None = None,
        system: str | None = None,
        recall: bool = True,
        memories: bool = True,
        rebuild: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.tenant, self.name, self.recall, self.memories = model, tenant, name, recall, memories
        stored = tenant.session(name) if tenant.exists(name) else None
        before = stored.settings if stored else {}
        asked = before.get("context_budget", DEFAULT_BUDGET) if context_budget is None else context_budget
        self.context_budget = parse_bytes(asked)
        self.strategy = strategy_by_name(str(strategy or before.get("strategy") or default_strategy(model)))
        self.codec_name = str(codec or before.get("codec", DEFAULT_CODEC))
        self._codec = codec_by_name(self.codec_name, model=model)
        self.long_term, self._caught_up = LongTerm(model, tenant, self._codec, self.strategy), False
        self._settings = {
            "model": model.name,
            "context_budget": self.context_budget,
            "strategy": self.strategy.name,
            "codec": self.codec_name,
        }
        check_budget(model, self.context_budget, system or str(before.get(SYSTEM, "")))
        if system and stored and stored.head:
            raise InvalidInput(f"Session {name!r} has begun, its system prompt is fixed", "Start another session.")
        if stored is None:
            tenant.create_session(name, {**self._settings, **({SYSTEM: system} if system else {})})
        self._pending_system = system or before.get(SYSTEM)  # until the first turn reads it
        self._take_over(rebuild, progress)

    # -- what it holds

    @property
    def size(self) -> CacheSize:
        """Measured bytes of the live cache."""
        return self._live.size()

    @property
    def stored_bytes(self) -> int:
        """Bytes of this session's cache on disk."""
        return self._record.blob.length if self._record.blob else 0

    @property
    def tokens(self) -> int:
        """Tokens that the live cache has consumed."""
        return len(self._live)

    @property
    def context(self) -> tuple[Item, ...]:
        """The items in the context, in order."""
        return self._items

    def fork(self) -> LiveCache:
        """A copy of the live cache to probe; the conversation does not notice."""
        return self._live.fork()

    # -- talking

    def turn(
        self,
        text: str,
        *,
        on_text: OnText | None = None,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
        history: Sequence[Message] = (),
        stops: Sequence[str] = (),
    ) -> Reply:
        """Say `text`, get the reply, and commit both with the cache.

        `on_text` gets the reply piece by piece. Ctrl-C during the reply keeps what was written so far and marks it; an
        earlier Ctrl-C undoes the turn (a callback may raise KeyboardInterrupt too). If anything is raised, session and
        store are as before the turn. `history` are messages that were exchanged elsewhere before it, user's and
        assistant's; they become part of the session. The reply ends before any of the texts in `stops`.

        Raises:
            InvalidInput: an empty message, or one that does not fit the model's positions.
            BudgetExceeded: the message alone is larger than the context budget.
            Conflict: another writer moved the session on; open it again.
            QuotaExceeded: the tenant's quota is used up.
            StorageFull: the disk is full.
        """
        began = time.perf_counter()
        self.model.chat.new_moment()
        draft = self._draft()
        reused = 0 if self._make_room(draft, text, max_new_tokens, history) else len(draft.live)
        has_read = tuple(draft.items)
        if self._pending_system:
            draft.add("system", "system", self._pending_system)
        for message in history:
            draft.add("message", message["role"], message["content"])
        spliced = 0
        if self.memories and (spliced := self._bring_memories(draft, text, max_new_tokens)):
            has_read = up_to_whole(draft.items)
        if self.recall:
            room = room_for_recall(self.model, draft, self.context_budget, text, max_new_tokens)
            bring_stretches(self.model, self.tenant, self.name, draft, text, room)
        draft.add("message", "user", text)
        answered = answer(self.model, draft, has_read, on_text, max_new_tokens, sampling, progress, stops)
        if answered.interrupted and not answered.text.strip():
            raise KeyboardInterrupt
        draft.add("message", "assistant", answered.text, {"interrupted": True} if answered.interrupted else None)
        settle(self.model, draft, answered)
        prefilled = log_turn(draft, answered, reused, spliced)
        if draft.live.size().payload > self.context_budget:
            self._compact_or_note(draft)
        self._commit(draft)
        return Reply(
            text=answered.text,
            size=self.size,
            reused_tokens=reused,
            prefilled_tokens=prefilled,
            generated_tokens=answered.tokens,
            first_token_seconds=answered.first_token - began,
            seconds=time.perf_counter() - began,
            stored_bytes=self.stored_bytes,
            interrupted=answered.interrupted,
            ended=answered.ended,
            events=tuple(draft.events),
            spliced_tokens=spliced,
        )

    def compact(
        self, strategy: str | None = None, budget: int | str | None = None, preview: bool = False
    ) -> Compaction:
        """Make the context smaller now; by default to 60% of what it takes or of the budget, whichever is less.

        A `preview` says what would come of it, and changes nothing.

        Raises:
            DidNotShrink: the result would not be smaller; nothing was changed.
            BudgetExceeded: what must stay does not fit `budget`.
        """
        self.model.chat.new_moment()
        draft = self._draft()
        if budget is None:
            aim, most = int(AIM * min(self.context_budget, self.size.payload)), self.context_budget
        else:
            aim = most = parse_bytes(budget)
        compaction = self._compact(draft, aim, most, "request", strategy)
        if not preview:
            self._commit(draft)
        return compaction

    def undo(self) -> int:
        """Bring back the context that the last compaction replaced, with what was said since; bytes of its cache.

        Raises:
            NotFound: there is no compaction to undo.
            BudgetExceeded: that context does not fit the budget.
        """
        self.model.chat.new_moment()
        draft = self._draft()
        size = changing.undo(self.model, self.tenant, self.name, draft, self.context_budget)
        self._commit(draft)
        return size

    def edit(self, n: int, text: str) -> int:
        """Put a rule or a summary in other words; the new item's number.

        Raises:
            NotFound: there is no such item.
            InvalidInput: no words, or a message, which stays as it was said.
        """
        self.model.chat.new_moment()
        draft = self._draft()
        self.tenant.memory(self.name, n)
        (stored,) = items_of(self.tenant, self.name, [n])
        number = changing.edit(self.model, draft, stored, text, self.context_budget)
        self._commit(draft)
        return number

    def pin(self, rule: str, sources: Sequence[int] = ()) -> int:
        """Keep `rule` word for word in the registry; it enters the context with the next compaction.

        Returns:
            The rule's number.

        Raises:
            InvalidInput: an empty rule.
        """
        if not rule.strip():
            raise InvalidInput("The rule is empty", "Give its text.")
        check_message(self.model, self.context_budget, rule, "", 1)
        draft = self._draft()
        number = draft.free_n
        draft.memories.append(NewMemory(rule.strip(), kind="rule", sources=tuple(sources), data={"pinned": True}))
        draft.log("pinned", {"memory": number})
        self._commit(draft)
        return number

    def bring_back(self, n: int) -> None:
        """Quote item `n`, which left the context, in front of the next message.

        Raises:
            NotFound: there is no such item.
            InvalidInput: it is in the context, or has no text of its own.
        """
        draft = self._draft()
        changing.bring_back(draft, self.tenant.memory(self.name, n))
        self._commit(draft)

    def forget(self, n: int, progress: Progress | None = None) -> None:
        """Delete memory `n` and all that was made from it, everywhere, and read the rest again.

        Raises:
            NotFound: there is no such memory.
        """
        self._check_open()
        try:
            self.tenant.forget_memory(self.name, n)
        finally:
            # Also when the log still holds traces (ForgetPending): the live cache and the vectors must not.
            self.long_term = LongTerm(self.model, self.tenant, self._codec, self.strategy)
            self._take_over(rebuild=False, progress=progress)
            # That the rest was read again is what was asked for: only what did not fit any more is worth a note.
            self._notes = [note for note in self._notes if note.kind != "rebuilt"]

    @property
    def moved(self) -> bool:
        """Whether the store is at another head: another writer was faster, or Ctrl-C came right after a commit."""
        return self.tenant.session(self.name).head != self._record.head

    def reload(self, progress: Progress | None = None) -> None:
        """Take over what another writer stored meanwhile; what this session had not committed is gone.

        Raises:
            FingerprintMismatch: the other writer used another model.
        """
        self._take_over(rebuild=False, progress=progress)

    def close(self) -> None:
        """Let go of the live cache. Every turn was committed when it returned; what is made now are memories of it."""
        if self.memories and not self._closed and self._record.head:
            with suppress(MemkvError):  # the next session of this tenant makes what is missing, and says if it cannot
                self.long_term.remember(self.name, finished=True)
        self._live, self._closed = self.model.new_cache(), True

    def __enter__(self) -> Session:
        """The session itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    # -- inside

    def _take_over(self, rebuild: bool, progress: Progress | None) -> None:
        """Make the stored state this session's own."""
        self.model.chat.new_moment()
        start = open_cache(self.model, self.tenant, self.name, self.context_budget, rebuild, progress)
        self._record, self._live, self._items, self.opened = start.record, start.live, start.items, start.opened
        self._notes = list(start.notes)
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInput(f"Session {self.name!r} is closed", "Open it again: Session(model, tenant, name).")

    def _draft(self) -> Draft:
        """A draft on a fork of the live cache."""
        self._check_open()
        return Draft(self._live.fork(), list(self._items), self._record.next_n, events=list(self._notes))

    def _compact_or_note(self, draft: Draft) -> None:
        """Compact after a turn. A turn is never lost over it: a compaction that fails is logged and told."""
        try:
            self._compact(draft, int(AIM * self.context_budget), self.context_budget, "budget")
        except MemkvError as error:
            draft.log("compaction_failed", {"reason": type(error).__name__, "error": str(error)})

    def _compact(self, draft: Draft, aim: int, most: int, trigger: str, strategy: str | None = None) -> Compaction:
        """Make the draft's context smaller, with this session's strategy or another one."""
        chosen = self.strategy if strategy is None else strategy_by_name(strategy)
        pinned = changing.pinned_by_hand(self.tenant, self.name)
        return changing.compact(self.model, chosen, draft, pinned, aim, most, trigger)

    def _bring_memories(self, draft: Draft, text: str, max_new_tokens: int) -> int:
        """Put what earlier conversations said about the message before it; the tokens that came as cache.

        A turn is never lost over memories (no room for them, no embedding model, forgotten this moment): it is logged.
        """
        try:
            if not self._caught_up:
                self._caught_up = True  # also where that fails: it would fail at every turn
                self.long_term.catch_up(self.name)
            room = room_for_recall(self.model, draft, self.context_budget, text, max_new_tokens)
            return bring_memories(self.long_term, draft, self.name, text, room)
        except MemkvError as error:
            draft.log("memories_failed", {"reason": type(error).__name__, "error": str(error)})
            return 0

    def _commit(self, draft: Draft) -> None:
        """Store text, events and cache in one transaction; the session moves on only when that is durable."""
        read = any(item.kind == "system" for item in draft.items)  # not where a rule was pinned before the first turn
        pending = None if read else self._pending_system
        captured, refusal = at_rest(self._codec, self.model.capture(draft.live))
        if refusal:
            draft.log("codec_refused", {"codec": self.codec_name, "stored_as": list(captured.codecs), "error": refusal})
        self._record = self.tenant.commit(
            self.name,
            self._record.head,
            memories=draft.memories,
            events=draft.events,
            context=[item.n for item in draft.items],
            tokens=token_bytes(draft.live.token_ids),
            settings={**self._settings, **({SYSTEM: pending} if pending else {})},
            fingerprint=asdict(captured.fingerprint),
            blob=to_buffers(captured),
        )
        self._live, self._items = draft.live, tuple(draft.items)
        self._notes, self._pending_system = [], pending
        if self.memories and any(event.kind == "compaction" for event in draft.events):
            # What left the context can come back as cache; its text is in the store anyway, and so is this turn.
            with suppress(MemkvError, KeyboardInterrupt):
                self.long_term.remember(self.name)

    def _make_room(self, draft: Draft, text: str, max_new_tokens: int, history: Sequence[Message]) -> bool:
        """Refuse a message that cannot be read; compact first where the model's positions would run out.

        Returns:
            Whether it compacted.
        """
        model, limit = self.model, self.model.max_tokens
        unread = (item.text for item in draft.items if item.kind == "recalled")  # at most: some may be read already
        before = "\n".join([self._pending_system or "", *unread, *(message["content"] for message in history)])
        needed = check_message(model, self.context_budget, text, before, max_new_tokens)
        if limit is None or len(draft.live) + needed <= limit:
            return False
        profile = model.profile
        self._compact(draft, profile.at(int(AIM * (limit - needed))), profile.at(limit - needed), "positions")
        return True
