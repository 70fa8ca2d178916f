"""A stretch of conversation as a cache of its own, that can be put behind any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from memkv.errors import DamagedBlob
from memkv.snapshot import CacheSnapshot

START, TRANSITION = "start.", "transition."  # before the name of a recurrent state, in a packed segment
AGAIN = "It will be made again from the stored text."


@dataclass(frozen=True)
class Segment:
    """What was read of one stretch, alone behind a lead that is not part of it.

    Attributes:
        snapshot: entries of the stretch's tokens (where a sliding layer still holds them), convolution and recurrent
            state at its end, and its token ids.
        first: position at which it was read: tokens of the lead.
        repair: tokens at its beginning that are read again where it is put.
        starts: recurrent state behind lead and repaired tokens, by (layer, name).
        transitions: what the rest of the stretch does to that state (D, see `memkv.splice.recurrence`).
    """

    snapshot: CacheSnapshot
    first: int
    repair: int
    starts: Mapping[tuple[int, str], Tensor]
    transitions: Mapping[tuple[int, str], Tensor]

    def __len__(self) -> int:
        """Tokens."""
        return len(self.snapshot.token_ids)

    @property
    def payload(self) -> int:
        """Bytes that the numbers need, those for the composition included."""
        composition = (*self.starts.values(), *self.transitions.values())
        return self.snapshot.payload + sum(tensor.numel() * tensor.element_size() for tensor in composition)

    def packed(self) -> CacheSnapshot:
        """All of it as one snapshot, to be compressed and stored like any other; `unpacked` is the inverse."""
        layers = list(self.snapshot.layers)
        for prefix, tensors in ((START, self.starts), (TRANSITION, self.transitions)):
            for (index, name), tensor in tensors.items():
                layers[index] = replace(layers[index], tensors={**layers[index].tensors, prefix + name: tensor})
        meta = {"first": self.first, "repair": self.repair}
        layers[0] = replace(layers[0], meta={**layers[0].meta, **meta})
        return replace(self.snapshot, layers=tuple(layers))


def unpacked(packed: CacheSnapshot) -> Segment:
    """The segment in a snapshot.

    Raises:
        DamagedBlob: it is none.
    """
    first, repair = packed.layers[0].meta.get("first"), packed.layers[0].meta.get("repair")
    if type(first) is not int or type(repair) is not int or first < 1 or not 0 <= repair <= len(packed.token_ids):
        raise DamagedBlob("The stored cache is no segment", AGAIN)
    found: dict[str, dict[tuple[int, str], Tensor]] = {START: {}, TRANSITION: {}}
    layers = []
    for index, layer in enumerate(packed.layers):
        own = dict(layer.tensors)
        for prefix, tensors in found.items():
            for name in [name for name in own if name.startswith(prefix)]:
                tensors[index, name.removeprefix(prefix)] = own.pop(name)
        meta = {key: value for key, value in layer.meta.items() if index or key not in ("first", "repair")}
        layers.append(replace(layer, tensors=own, meta=meta))
    return Segment(replace(packed, layers=tuple(layers)), first, repair, found[START], found[TRANSITION])
