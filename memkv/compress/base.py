"""What every codec is: a snapshot and a byte budget in, a smaller snapshot inside the budget out."""

from __future__ import annotations

from typing import Protocol

from memkv.errors import BudgetExceeded, InvalidInput
from memkv.snapshot import COMPRESSIBLE, CacheSnapshot, LayerState

# Under this key a layer's meta says how its quantized tensors are read: tensor name -> what its codec needs.
QUANTIZED = "quantized"


class KVCompressor(Protocol):
    """One method of making a snapshot smaller. Recurrent state and sliding windows always travel whole."""

    @property
    def name(self) -> str:
        """What `codec()` calls it, and what is noted in `CacheSnapshot.codecs`."""
        ...

    def compress(self, snapshot: CacheSnapshot, budget: int | None = None) -> CacheSnapshot:
        """A snapshot whose measured payload is at most `budget` bytes, everything included; None sets no limit.

        Raises:
            BudgetExceeded: not even the smallest result fits; `smallest` is a budget that works.
            InvalidInput: the snapshot is quantized already, or holds inf or NaN.
        """
        ...


def compressible(snapshot: CacheSnapshot) -> dict[int, LayerState]:
    """Index -> layer, for the layers whose attention KV a codec may shrink and that hold any.

    Raises:
        InvalidInput: a layer is quantized already.
    """
    for index, layer in enumerate(snapshot.layers):
        if QUANTIZED in layer.meta:
            raise InvalidInput(f"Layer {index} is quantized already", "Call memkv.compress.decompress() first.")
    return {
        index: layer
        for index, layer in enumerate(snapshot.layers)
        if layer.kind in COMPRESSIBLE and "keys" in layer.tensors and layer.tensors["keys"].shape[2] > 0
    }


def held_tokens(layer: LayerState) -> int:
    """How many entries the attention KV of an unquantized layer holds; after eviction fewer than `layer.seen`."""
    return layer.tensors["keys"].shape[2]


def layer_bytes(layer: LayerState) -> int:
    """Payload of one layer: the bytes of all its tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in layer.tensors.values())


def within(snapshot: CacheSnapshot, budget: int | None, codec: str) -> CacheSnapshot:
    """`snapshot` itself, measured.

    Raises:
        BudgetExceeded: it is larger than `budget`.
    """
    if budget is not None and snapshot.payload > budget:
        raise too_small(budget, snapshot.payload, codec)
    return snapshot


def too_small(budget: int, smallest: int, codec: str) -> BudgetExceeded:
    """The error for a budget below the `smallest` one that works."""
    return BudgetExceeded(
        f"{codec} needs {smallest} bytes for this snapshot, the budget is {budget}",
        f"Raise the budget to {smallest} bytes, or use a stronger codec (streaming+int4).",
        smallest=smallest,
    )


def budget_from_ratio(snapshot: CacheSnapshot, ratio: float) -> int:
    """Bytes that leave `ratio` of the compressible attention KV, and everything else whole.

    Raises:
        InvalidInput: `ratio` is not within 0 (excluded) and 1.
    """
    if not 0 < ratio <= 1:
        raise InvalidInput(f"The ratio {ratio} is not within 0 and 1", "0.25 keeps a quarter of the attention bytes.")
    attention = sum(
        layer.tensors[name].numel() * layer.tensors[name].element_size()
        for layer in compressible(snapshot).values()
        for name in ("keys", "values")
    )
    return snapshot.payload - attention + int(attention * ratio)
