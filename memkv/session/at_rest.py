"""How a cache is stored: by the session's codec, as far as that can be used. Nothing is lost over one that cannot."""

from __future__ import annotations

from memkv.compress import Chain, Identity, KVCompressor, Quantizer
from memkv.errors import InvalidInput, UnsupportedModel
from memkv.snapshot import CacheSnapshot


def at_rest(codec: KVCompressor, snapshot: CacheSnapshot) -> tuple[CacheSnapshot, str]:
    """The snapshot as it is stored, and why the codec could not be used, if so.

    An evicting codec cannot choose among what is left of an earlier eviction, which is what a session holds once it was
    opened again: then only its quantizing part is used.
    """
    try:
        return codec.compress(snapshot, None), ""
    except (InvalidInput, UnsupportedModel) as error:
        rest = Identity() if isinstance(codec, Quantizer) else quantizing(codec)
        return rest.compress(snapshot, None), error.message


def quantizing(codec: KVCompressor | None) -> KVCompressor:
    """The part of a codec that keeps all entries."""
    if isinstance(codec, Chain):
        return codec.quantizer
    return codec if isinstance(codec, Quantizer) else Identity()
