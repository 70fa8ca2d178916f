"""`memkv memory ls|show|why|forget|export|import|verify|gc`: look at, move and delete what is stored."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from memkv.chat.life import life_of, moment, one_line, plain, render_life
from memkv.chat.terminal import emit, err, out, progress
from memkv.config import format_bytes
from memkv.errors import Conflict, InvalidInput
from memkv.store import MemoryStore, TenantStore, parse_address

__all__ = ["MemoryCommand", "life_of", "render_life"]

PAGE = 50


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Which store, whose memories, and how to print."""

    store: str | None = None
    """Folder or URL of the store; default: MEMKV_STORE_URL, or store/ in MEMKV_HOME."""
    tenant: str = "default"
    """Whose memories."""
    json: bool = False
    """Print one JSON document instead of tables."""

    def open(self) -> MemoryStore:
        """The store."""
        return MemoryStore.open(self.store)

    def owner(self, store: MemoryStore) -> TenantStore:
        """The tenant; only the default one is made by being looked at."""
        return store.tenant(self.tenant, create=self.tenant == "default")


@dataclass(frozen=True, kw_only=True)
class Ls(StoreOptions):
    """List sessions, or the memories of one session."""

    session: tyro.conf.Positional[str | None] = None
    """Session whose memories to list; without it, the sessions."""
    kind: str | None = None
    """Only memories of this kind: system, message, rule or summary."""
    limit: int = PAGE
    """Memories on a page."""
    offset: int = 0
    """Memories to skip."""
    tenants: bool = False
    """List the tenants of the store instead."""

    def run(self) -> int:
        """List."""
        if self.limit < 1 or self.offset < 0:
            raise InvalidInput("A page has at least one line and starts at 0 or later", "Correct --limit or --offset.")
        with self.open() as store:
            if self.tenants:
                return self.list_tenants(store)
            tenant = self.owner(store)
            return self.list_sessions(tenant) if self.session is None else self.list_memories(tenant, self.session)

    def list_tenants(self, store: MemoryStore) -> int:
        """Who has memories here, and how many bytes."""
        found = [(tenant, store.tenant(tenant.id, create=False).usage()) for tenant in store.tenants()]
        if self.json:
            emit([{"id": tenant.id, "created": tenant.created, **asdict(usage)} for tenant, usage in found])
            return 0
        table = Table("tenant", "since", "text", "KV", "quota", box=None, pad_edge=False)
        for tenant, usage in found:
            quota = "none" if tenant.quota_bytes is None else format_bytes(tenant.quota_bytes)
            sizes = format_bytes(usage.text), format_bytes(usage.blobs)
            table.add_row(Text(plain(tenant.id)), moment(tenant.created), *sizes, quota)
        out().print(table)
        return 0

    def list_sessions(self, tenant: TenantStore) -> int:
        """One line a session, the latest first."""
        sessions, usage = tenant.sessions(), tenant.usage()
        if self.json:
            usage_json = {**asdict(usage), "total": usage.total}
            emit({"tenant": tenant.id, "sessions": [asdict(info) for info in sessions], "usage": usage_json})
            return 0
        table = Table("session", "turns", "memories", "in context", "text", "KV", "last used", box=None, pad_edge=False)
        for info in sessions:
            counts = str(info.head), str(info.memories), str(info.in_context)
            sizes = format_bytes(info.text_bytes), format_bytes(info.blob_bytes) if info.blob_bytes else "none"
            table.add_row(Text(plain(info.name)), *counts, *sizes, moment(info.updated))
        out().print(table if sessions else "No sessions yet. `memkv chat --session NAME` starts one.")
        limit = tenant.limits.quota_bytes
        of = "" if limit is None else f" of {format_bytes(limit)}"
        out().print(
            f"{format_bytes(usage.total)}{of}: text {format_bytes(usage.text)}, records {format_bytes(usage.records)}, "
            f"tokens {format_bytes(usage.tokens)}, KV {format_bytes(usage.blobs)}, "
            f"vectors {format_bytes(usage.vectors)}."
        )
        return 0

    def list_memories(self, tenant: TenantStore, session: str) -> int:
        """One page of a session's memories."""
        present = set(tenant.session(session).context)
        page = tenant.memories(session, self.kind, self.limit + 1, self.offset)
        more, page = len(page) > self.limit, page[: self.limit]
        if self.json:
            found = [{**asdict(memory), "in_context": memory.n in present} for memory in page]
            emit({"session": session, "memories": found, "offset": self.offset, "more": more})
            return 0
        table = Table("memory", "kind", "where", "when", "text", box=None, pad_edge=False)
        for memory in page:
            where = "context" if memory.n in present else "store only"
            address, kind = Text(plain(memory.address)), Text(plain(memory.role or memory.kind))
            table.add_row(address, kind, where, moment(memory.created), Text(one_line(memory.text)))
        out().print(table if page else "No memories here.")
        if more:
            out().print(f"More: --offset {self.offset + self.limit}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Show(StoreOptions):
    """Print one memory word for word."""

    address: tyro.conf.Positional[str]
    """SESSION/N, as `ls SESSION` prints it."""

    def run(self) -> int:
        """Print it."""
        with self.open() as store:
            memory = self.owner(store).memory(*parse_address(self.address))
        if self.json:
            emit(asdict(memory))
        else:
            err().print(Text(f"{memory.address}, {memory.role or memory.kind}, {moment(memory.created)}", style="dim"))
            out().print(Text(plain(memory.text)))
        return 0


@dataclass(frozen=True, kw_only=True)
class Why(StoreOptions):
    """Tell the life of a memory: when it came, what it became, what took it out of the context, where it still is."""

    address: tyro.conf.Positional[str]
    """SESSION/N, as `ls SESSION` prints it."""

    def run(self) -> int:
        """Tell it."""
        with self.open() as store:
            life = life_of(self.owner(store), *parse_address(self.address))
        if self.json:
            emit(asdict(life))
        else:
            render_life(life)
        return 0


@dataclass(frozen=True, kw_only=True)
class Forget(StoreOptions):
    """Delete a memory with all that was derived from it, a session, or a tenant, so that nothing is left on disk."""

    target: tyro.conf.Positional[str | None] = None
    """SESSION/N or SESSION."""
    whole_tenant: bool = False
    """Delete everything of the tenant instead."""
    yes: bool = False
    """Do not ask."""

    def run(self) -> int:
        """Ask, then delete."""
        if self.whole_tenant == (self.target is not None):
            raise InvalidInput("Forget what?", "Name SESSION/N or SESSION, or pass --whole-tenant.")
        with self.open() as store:
            tenant = store.tenant(self.tenant, create=False)
            if self.target is None:
                self.confirm(f"tenant {tenant.id} with its {len(tenant.sessions())} sessions")
                store.forget_tenant(tenant.id)
                return self.done({"tenant": tenant.id})
            if "/" not in self.target:
                tenant.session(self.target)
                self.confirm(f"session {self.target} with its {len(tenant.memories(self.target))} memories")
                tenant.forget_session(self.target)
                return self.done({"session": self.target})
            session, n = parse_address(self.target)
            memory = tenant.memory(session, n)
            heirs = tenant.derived(session, n)
            along = f", and with it {', '.join(map(str, heirs))}, derived from it" if heirs else ""
            self.confirm(f"{memory.address} ({one_line(memory.text, 40)}){along}")
            gone = tenant.forget_memory(session, n)
        return self.done({"session": session, "memories": list(gone)})

    def confirm(self, what: str) -> None:
        """Ask on standard error.

        Raises:
            InvalidInput: nobody there to ask, or the answer was no.
        """
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise InvalidInput(f"This would forget {plain(what)}", "Pass --yes; nothing was deleted.")
        err().print(Text(f"Forget {plain(what)}? It cannot be had back. [y/N] "), end="")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise InvalidInput("Nothing was deleted", "Answer y to forget.")

    def done(self, forgotten: dict[str, Any]) -> int:
        """Say so."""
        if self.json:
            emit({"forgotten": forgotten})
        else:
            out().print("Forgotten. No file of the store holds it any more.")
        return 0


@dataclass(frozen=True, kw_only=True)
class Export(StoreOptions):
    """Write one session, text and KV, into one file."""

    session: tyro.conf.Positional[str]
    """Which session."""
    path: tyro.conf.Positional[Path | None] = None
    """The file; default: SESSION.memkv here."""
    force: bool = False
    """Replace the file if there is one."""

    def run(self) -> int:
        """Write it."""
        path = self.path or Path(f"{self.session}.memkv")
        if path.exists() and not self.force:
            raise Conflict(f"{path} exists already", "Name another file, or pass --force.")
        with self.open() as store:
            size = self.owner(store).export_session(self.session, path)
        if self.json:
            emit({"session": self.session, "path": str(path), "bytes": size})
        else:
            out().print(Text(f"{path}: {format_bytes(size)}. It holds the text in the clear, as the store does."))
        return 0


@dataclass(frozen=True, kw_only=True)
class Import(StoreOptions):
    """Add a session from a file that `export` wrote."""

    path: tyro.conf.Positional[Path]
    """The file."""
    name: str | None = None
    """Another name for the session."""

    def run(self) -> int:
        """Read, check and add it."""
        with self.open() as store:
            record = store.tenant(self.tenant).import_session(self.path, self.name)
        if self.json:
            emit({"session": record.name, "head": record.head, "in_context": len(record.context)})
        else:
            out().print(Text(f"Session {plain(record.name)}; go on with `memkv chat --session {plain(record.name)}`."))
        return 0


@dataclass(frozen=True, kw_only=True)
class Verify(StoreOptions):
    """Check every record and blob of the store, all tenants; exit status 1 if anything is wrong. Changes nothing."""

    def run(self) -> int:
        """Check."""
        with self.open() as store, progress("hashing blobs") as advance:
            problems = store.verify(advance)
        if self.json:
            emit({"problems": [asdict(problem) for problem in problems]})
        elif not problems:
            out().print("Everything is as it was written.")
        for problem in () if self.json else problems:
            out().print(Text(f"{problem.kind}: {plain(problem.where)}: {plain(problem.detail)}. {problem.next_step}"))
        return 1 if problems else 0


@dataclass(frozen=True, kw_only=True)
class Gc(StoreOptions):
    """Delete expired sessions, files that nothing refers to, and the last traces of forgotten text; all tenants."""

    timeout: float = 10.0
    """Seconds to wait for writers."""

    def run(self) -> int:
        """Collect."""
        with self.open() as store:
            report = store.gc(self.timeout)
        if self.json:
            emit({**asdict(report), "found_nothing": report.found_nothing})
            return 0
        names = ("missing_blobs", "orphan_blobs", "quarantined", "temp_files")
        parts = [f"{getattr(report, name)} {name.replace('_', ' ')}" for name in names if getattr(report, name)]
        parts += [f"expired: {plain(', '.join(report.expired_sessions))}"] if report.expired_sessions else []
        parts += ["traces of forgotten text"] if report.scrubbed else []
        parts += [f"blobs left alone: {report.skipped}"] if report.skipped else []
        freed = f" ({format_bytes(report.freed_bytes)} freed)" if report.freed_bytes else ""
        out().print(Text("; ".join(parts) + freed + "." if parts else "Nothing to collect."))
        return 0


MemoryCommand = (
    Annotated[Ls, tyro.conf.subcommand("ls")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Why, tyro.conf.subcommand("why")]
    | Annotated[Forget, tyro.conf.subcommand("forget")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Gc, tyro.conf.subcommand("gc")]
)
