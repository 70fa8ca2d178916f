"""One conversation: turn, compact, pin, forget, restore."""

from memkv.session.records import Opened, Reply
from memkv.session.session import Session

__all__ = ["Opened", "Reply", "Session"]
