"""Segments into a cache: keys turned to their new positions, recurrent states composed (DESIGN.md, section 4).

Attention entries of stretches that were read apart stand side by side once their keys are turned; a recurrent state is
linear in the state before it. Both are approximations for all layers but the first, whose inputs do not depend on what
was read before. So the first tokens of a segment can be read again where it is put: with all of them, that is reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from memkv.continuation import LOOSE_TOLERANCE
from memkv.errors import FingerprintMismatch, InvalidInput, UnsupportedModel
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot, LayerState
from memkv.splice.recurrence import Transition, find_form, measure, recorded, recurrent
from memkv.splice.rotation import AS_TEXT, SLOTS, TOKENS, find_moves, probe_tokens
from memkv.splice.segment import Segment

BIAS = "key_bias"
SPLICED = ("full", "sliding", "latent", "linear", "hybrid", "hybrid_sliding", "empty")
LINEAR = {torch.float64: 1e-4, torch.float32: 1e-3}  # largest difference to what a start of random numbers leads to


class Splicer:
    """Makes segments of a model and puts them into its caches.

    On construction it finds out how this model's keys move and how its recurrent states compose.

    Raises:
        UnsupportedModel: one of both cannot be done exactly; the layers are named. Recall as text works all the same.
    """

    def __init__(self, model: HybridModel) -> None:
        self.model = model
        odd = [index for index, kind in enumerate(model.layer_kinds) if kind not in SPLICED]
        if odd or model.holds_state:
            what = f"layers {odd}" if odd else "state that it keeps in its modules"
            raise UnsupportedModel(f"{model.name} has {what} that cannot be spliced", AS_TEXT)
        self._moves = find_moves(model)
        self._forms = self._find_forms()

    def encode(self, lead: Sequence[int], token_ids: Sequence[int], repair: int = 0) -> Segment:
        """Read a stretch alone.

        Args:
            lead: tokens before it that are not part of it: at least the token that every conversation begins with, so
                that the attention sink is not in every segment.
            token_ids: the stretch.
            repair: tokens that will be read again where it is put; 0 to all.

        Raises:
            InvalidInput: no lead, no tokens, or more to repair than there are.
        """
        if not lead or not token_ids or not 0 <= repair <= len(token_ids):
            raise InvalidInput(
                f"A segment of {len(token_ids)} tokens behind {len(lead)} cannot be repaired by {repair}",
                "Give a lead (the system prompt), a text, and no more repair than it has tokens.",
            )
        live = self.model.new_cache()
        self.model.extend(live, [*lead, *token_ids[:repair]])
        start = self.model.capture(live)
        transitions: dict[tuple[int, str], Tensor] = {}
        end = start
        if rest := token_ids[repair:]:
            with recorded(self.model, live) as record:
                self.model.extend(live, rest)
            end = self.model.capture(live)
            for index in record.calls:
                found = measure(self.model, record, index, start.layers[index], end.layers[index], self._forms[index])
                transitions |= {(index, name): tensor for name, tensor in found.items()}
        layers = tuple(without_lead(layer, len(token_ids)) for layer in end.layers)
        starts = {
            (index, name): layer.tensors[name] for index, layer in enumerate(start.layers) for name in recurrent(layer)
        }
        snapshot = replace(end, layers=layers, token_ids=tuple(token_ids))
        return Segment(snapshot, len(lead), repair, starts, transitions)

    def splice(self, live: LiveCache, segments: Sequence[Segment]) -> LiveCache:
        """A new cache: what `live` holds, and behind it the segments in the order given. `live` is left as it was.

        Before the next token can be predicted, something has to be read after it.

        Raises:
            FingerprintMismatch: a segment of another model.
            InvalidInput: more tokens than the model has positions.
        """
        if not len(live):
            raise InvalidInput("There is nothing to put the segments behind", "Read the system prompt first.")
        for segment in segments:
            differences = segment.snapshot.fingerprint.differences(self.model.fingerprint)
            if differences:
                raise FingerprintMismatch(differences, "Make the segment again from its text.")
        joined, run = live.fork(), list[Segment]()
        for segment in segments:
            if segment.repair:
                joined, run = self._append(joined, run), []
                self.model.extend(joined, segment.snapshot.token_ids[: segment.repair])
            if segment.repair < len(segment):
                run.append(segment)
        return self._append(joined, run)

    def _append(self, live: LiveCache, run: Sequence[Segment]) -> LiveCache:
        """What is not read again of segments that follow one another, behind `live`; copied once, however many."""
        if not run:
            return live
        before = self.model.capture(live)
        layers = tuple(self._joined(index, layer, run, len(live)) for index, layer in enumerate(before.layers))
        token_ids = (*before.token_ids, *(token for each in run for token in each.snapshot.token_ids[each.repair :]))
        limit = self.model.max_tokens
        if limit is not None and len(token_ids) > limit:
            raise InvalidInput(
                f"With these segments the cache would hold {len(token_ids)} tokens, more than the {limit} positions of "
                f"{self.model.name}",
                "Splice fewer segments.",
            )
        return self.model.restore(CacheSnapshot(layers, token_ids, before.fingerprint))

    def _joined(self, index: int, before: LayerState, run: Sequence[Segment], at: int) -> LayerState:
        """One layer of `_append`; `at` is the position of the first token that is not read again."""
        entries = {name: [tensor] for name, tensor in before.tensors.items() if name in SLOTS}
        states = {name: tensor for name, tensor in before.tensors.items() if name not in SLOTS}
        for segment in run:
            new = len(segment) - segment.repair
            for name, tensor in segment.snapshot.layers[index].tensors.items():
                if name in SLOTS:
                    moved = self._moves[index, name](tensor[..., -new:, :], at - segment.first - segment.repair)
                    entries[name].append(moved)
                elif (index, name) in segment.transitions:
                    change = states[name].float() - segment.starts[index, name].float()
                    carried = self._forms[index][name].carry(segment.transitions[index, name], change)
                    states[name] = (tensor.float() + carried).to(tensor.dtype)
                else:  # a convolution's last inputs
                    tail = tensor[..., -new:]
                    states[name] = torch.cat((states[name], tail), -1)[..., -tensor.shape[-1] :]
            at += new
        joined = {name: self._newest(index, torch.cat(parts, -2)) for name, parts in entries.items()}
        if BIAS in states:  # of entries that an eviction has fitted; those that follow have none
            grown = joined["keys"].shape[-2] - states[BIAS].shape[-1]
            states[BIAS] = torch.nn.functional.pad(states[BIAS], (0, grown))
        return replace(before, seen=at, tensors=states | joined)

    def _newest(self, index: int, entries_BHTD: Tensor) -> Tensor:
        """What a layer keeps of its entries."""
        window = self.model.window(index)
        return entries_BHTD if window is None else entries_BHTD[..., -(window - 1) :, :]

    def _find_forms(self) -> dict[int, dict[str, Transition]]:
        """Layer -> form of each of its recurrent states."""
        model = self.model
        tokens = probe_tokens(model, 2 * TOKENS, seed=1)
        live = model.new_cache()
        model.extend(live, tokens[:TOKENS])
        start = model.capture(live)
        with recorded(model, live) as record:
            model.extend(live, tokens[TOKENS:])
        end = model.capture(live)
        bound = LINEAR.get(model.dtype, LOOSE_TOLERANCE)
        forms = {i: find_form(model, record, i, start.layers[i], end.layers[i], bound) for i in record.calls}
        odd = [index for index, found in forms.items() if found is None]
        if odd:
            raise UnsupportedModel(
                f"The states of layers {odd} of {model.name} are not linear in the states before them", AS_TEXT
            )
        return {index: found for index, found in forms.items() if found is not None}


def without_lead(layer: LayerState, tokens: int) -> LayerState:
    """A layer with the entries of the newest `tokens` only."""
    tensors = {name: t[..., -tokens:, :].clone() if name in SLOTS else t for name, t in layer.tensors.items()}
    return replace(layer, seen=tokens, tensors=tensors)
