"""What can go wrong, by name. Every message ends with the next step to take."""

from __future__ import annotations

from collections.abc import Mapping


class MemkvError(Exception):
    """Base of all memkv errors.

    Args:
        message: what happened, one sentence without a full stop.
        next_step: what the user can type or change now.
    """

    def __init__(self, message: str, next_step: str = "") -> None:
        self.message = message
        self.next_step = next_step
        super().__init__(f"{message}. {next_step}" if next_step else message)


class ConfigError(MemkvError):
    """A configuration file or option holds a value or key that memkv does not know."""


class InvalidInput(MemkvError):
    """The caller's input cannot be used: an empty message, one longer than the context, a bad size."""


class ModelUnavailable(MemkvError):
    """No weights under that name: unknown, damaged, or on a hub that cannot be reached."""


class UnsupportedModel(MemkvError):
    """The model runs, but its cache cannot be continued, measured or stored exactly."""


class BudgetExceeded(MemkvError):
    """A byte budget cannot be met.

    Attributes:
        smallest: the smallest budget in bytes that works.
    """

    def __init__(self, message: str, next_step: str = "", *, smallest: int) -> None:
        super().__init__(message, next_step)
        self.smallest = smallest


class DidNotShrink(MemkvError):
    """A compaction would leave the context as large as it was; the context is untouched."""


class FingerprintMismatch(MemkvError):
    """A snapshot was made by something else than the running model.

    Attributes:
        fields: differing field -> (stored value, value of the running model).
    """

    def __init__(self, fields: Mapping[str, tuple[str, str]], next_step: str = "") -> None:
        self.fields = dict(fields)
        named = "; ".join(f"{name}: stored {old}, running {new}" for name, (old, new) in fields.items())
        super().__init__(f"The snapshot does not fit this model ({named})", next_step)


class DamagedBlob(MemkvError):
    """A blob or an export file is truncated, altered, oversized or not what its name says."""


class NotFound(MemkvError):
    """No such tenant, session, memory or blob."""


class Conflict(MemkvError):
    """Another writer moved the session's head first; nothing of this commit was kept."""


class QuotaExceeded(MemkvError):
    """The tenant's byte quota does not allow this commit; nothing was kept.

    Attributes:
        used: bytes the tenant uses now.
        needed: bytes it would use after the commit.
        limit: the quota in bytes.
    """

    def __init__(self, message: str, next_step: str = "", *, used: int, needed: int, limit: int) -> None:
        super().__init__(message, next_step)
        self.used, self.needed, self.limit = used, needed, limit


class StorageFull(MemkvError):
    """The disk is full; what was acknowledged before is untouched."""


class IncompatibleStore(MemkvError):
    """The store was written by a newer memkv, or is not a memkv store at all."""


class DamagedStore(MemkvError):
    """The index of the store cannot be read as written: damaged pages, or a failing disk."""


class StoreBusy(MemkvError):
    """Other processes hold the store's locks for longer than the timeout; nothing was changed."""


class ForgetPending(MemkvError):
    """The data are deleted, but a file of the store still holds traces of them until the next `memkv memory gc`."""
