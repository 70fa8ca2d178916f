"""HybridModel: any transformers causal LM whose cache is made of transformers' cache layers."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicSlidingWindowLayer

from memkv import pretrained
from memkv.adapters import load_adapter, switch_adapter
from memkv.attention import use_biased_attention
from memkv.cache_size import CacheProfile, find_module_state, profile, read_module_state
from memkv.continuation import Continuation, check_continuation
from memkv.continuation_memory import recall_continuation, remember_continuation
from memkv.errors import FingerprintMismatch, InvalidInput, ModelUnavailable, UnsupportedModel
from memkv.fingerprint import adapter_hash, layout_text, rope_text, short_hash, tokenizer_hash, weights_hash
from memkv.layers import BiasedLayer, fill_layer, read_layer
from memkv.layout import check_layout, held_layout, layout_of
from memkv.live import LiveCache
from memkv.sampling import Sampling, pick
from memkv.snapshot import CacheSnapshot, Fingerprint, LayerKind, LayerState
from memkv.turns import ChatFormat

# Tokens per forward pass of a long prefill: bounds the logits and masks held at once, and lets a progress bar move.
PREFILL_PIECE = 1024
# Above this many parameters the self-check runs in the model's own precision, because a copy in fp32 may not fit.
FP32_CHECK_PARAMETERS = 1_500_000_000

Progress = Callable[[int, int], None]  # (tokens done, tokens in all)
Answer = TypeVar("Answer")


class HybridModel:
    """A causal LM with its layer kinds, tokenizer and chat format.

    On construction a self-check finds out how this model's cache is continued exactly (see `continuation`); the
    answer is remembered by fingerprint under `MEMKV_HOME`.

    Raises:
        UnsupportedModel: no transformers `Cache`, or no way of continuing from it is exact.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, name: str = ""
    ) -> None:
        self.hf = model.eval()
        self.tokenizer = tokenizer
        self.name = name or model.config.name_or_path or model.config.model_type
        self.adapter: str | None = None
        self._adapters: dict[str, str] = {}  # name -> what the fingerprint says of it
        self._answers: dict[object, Any] = {}  # of `once`
        parameters = inspect.signature(model.forward).parameters
        # Mamba models call it cache_params; some take it through **kwargs only.
        self._cache_argument = "cache_params" if "cache_params" in parameters else "past_key_values"
        takes_anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        if "state" in parameters or not (self._cache_argument in parameters or takes_anything):
            raise UnsupportedModel(
                f"{type(model).__name__} does not keep its memory in a transformers Cache",
                "`memkv measure` still measures it; chat and snapshots need a model with cache layers.",
            )
        self._takes_positions = "position_ids" in parameters
        self._takes_logits_to_keep = "logits_to_keep" in parameters
        self._held_slots: tuple[tuple[str, str], ...] = ()
        try:
            self._held_slots = find_module_state(model, self._probe_layers)
        except (ValueError, TypeError, AttributeError) as error:
            raise UnsupportedModel(
                f"{type(model).__name__} does not run with a transformers DynamicCache ({error})",
                "`memkv measure` may still measure it; chat and snapshots need a model with cache layers.",
            ) from error
        probe = self._probe_layers()
        self.layer_kinds: tuple[LayerKind, ...] = tuple(state.kind for state in probe)
        self._layouts = tuple(layout_of(state) for state in probe)
        self._held_layout = held_layout(read_module_state(model, self._held_slots))
        self._weights = weights_hash(model)
        self.continuation: Continuation = recall_continuation(self._check_key) or self._check()
        if not self.continuation.exact:
            raise UnsupportedModel(f"{self.name}: {self.continuation.describe()}", "Try a newer transformers version.")

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = pretrained.EMBEDDED,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: str = "cpu",
        notify: Callable[[str], None] | None = None,
    ) -> HybridModel:
        """Load `smollm2-135m` (embedded, no network), a local folder or a hub id.

        Raises:
            ModelUnavailable: unknown name, damaged weights, or a hub that cannot be reached.
            UnsupportedModel: see the class.
        """
        model, tokenizer = pretrained.load(str(name), dtype=dtype, device=device, notify=notify)
        return cls(model, tokenizer, name=str(name))

    # -- what it is

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights and of attention KV."""
        dtype: torch.dtype = self.hf.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.hf.device
        return device

    @property
    def max_tokens(self) -> int | None:
        """Positions that the model was made for, or None if it names no limit."""
        text = self.hf.config.get_text_config(decoder=True)
        limit = getattr(text, "max_position_embeddings", None)
        return int(limit) if limit else None

    @property
    def holds_state(self) -> bool:
        """Whether the model keeps recurrent state in its modules instead of in the cache."""
        return bool(self._held_slots)

    def once(self, ask: Callable[[HybridModel], Answer]) -> Answer:
        """What `ask` finds out about this model, found out at the first call only: it may take seconds."""
        if ask not in self._answers:
            self._answers[ask] = ask(self)
        answer: Answer = self._answers[ask]
        return answer

    def window(self, index: int) -> int | None:
        """Tokens that cache layer `index` attends to at most, itself included; None where there is no such limit."""
        layer = self._fresh_cache().layers[index]
        return layer.sliding_window if isinstance(layer, DynamicSlidingWindowLayer) else None

    @cached_property
    def chat(self) -> ChatFormat:
        """The chat format.

        Raises:
            ModelUnavailable: the model came without a tokenizer.
        """
        if self.tokenizer is None:
            raise ModelUnavailable(f"{self.name} has no tokenizer", "Pass one: HybridModel(model, tokenizer).")
        stops = self.hf.generation_config.eos_token_id if self.hf.generation_config is not None else None
        return ChatFormat(self.tokenizer, stops if isinstance(stops, list) else [] if stops is None else [stops])

    @cached_property
    def profile(self) -> CacheProfile:
        """Measured law of this model's cache size."""
        return profile(self.hf)

    @property
    def fingerprint(self) -> Fingerprint:
        """What a snapshot must match to be continued here, with the adapter that is active now."""
        return self._fingerprint_with(self.adapter)

    def _fingerprint_with(self, adapter: str | None) -> Fingerprint:
        if adapter is None:
            return self._base_fingerprint
        return dataclasses.replace(self._base_fingerprint, adapter=self._adapters[adapter])

    @cached_property
    def _base_fingerprint(self) -> Fingerprint:
        """Without an adapter. Computed once: hashing a tokenizer takes 100 ms, which every capture would pay."""
        return Fingerprint(
            weights=self._weights,
            adapter="none",
            tokenizer=tokenizer_hash(self.tokenizer),
            chat_template="none" if self.tokenizer is None else short_hash(self.chat.template.encode()),
            dtype=str(self.dtype).removeprefix("torch."),
            rope=rope_text(self.hf.config),
            cache_layout=layout_text(self.layer_kinds),
        )

    # -- reading and writing

    def new_cache(self) -> LiveCache:
        """An empty conversation."""
        return LiveCache(self._fresh_cache(), adapter=self.adapter)

    def extend(self, live: LiveCache, token_ids: Sequence[int], progress: Progress | None = None) -> Tensor:
        """Read `token_ids` after what `live` has read; returns the logits after the last one (V).

        Raises:
            InvalidInput: no tokens, ids outside the vocabulary, more positions than the model has, or a cache that
                an interrupted pass left half written.
            FingerprintMismatch: the conversation was read under another adapter.
        """
        self._check_usable(live)
        self._check_tokens(live, token_ids)
        done = 0
        while done < len(token_ids):
            piece = list(token_ids[done : done + self._piece_length(len(live), len(token_ids))])
            live.broken = True  # until the pass is over, some layers may hold more tokens than others
            live.next_logits = self._forward_live(live, piece, keep_all=False)[-1].clone()
            live.token_ids.extend(piece)
            live.broken = False
            done += len(piece)
            if progress is not None:
                progress(done, len(token_ids))
        assert live.next_logits is not None
        return live.next_logits

    def generate(
        self, live: LiveCache, max_new_tokens: int, sampling: Sampling | None = None, stop_ids: Sequence[int] = ()
    ) -> Iterator[int]:
        """Yield tokens one by one; each is in `live` when it is yielded. Ends before a token of `stop_ids`.

        Greedy unless `sampling` says otherwise. Closing the generator between two tokens leaves `live` whole.

        Raises:
            InvalidInput: `live` has read nothing in this process.
        """
        if live.next_logits is None:
            raise InvalidInput("Nothing was read yet, so there is no next token", "Call extend() first.")
        sampling = sampling or Sampling()
        generator = sampling.generator()
        stops = set(stop_ids)
        for _ in range(max_new_tokens):
            token = pick(live.next_logits, sampling, generator)
            if token in stops:
                return
            self.extend(live, [token])
            yield token

    def log_probs(self, live: LiveCache, continuations: Sequence[Sequence[int]]) -> list[float]:
        """Log-probability (nats, summed over tokens) of each continuation after `live`, which is left as it was.

        Raises:
            InvalidInput: an empty continuation, or nothing read yet.
            FingerprintMismatch: the conversation was read under another adapter.
        """
        self._check_usable(live)
        if live.next_logits is None:
            raise InvalidInput("Nothing was read yet, so there is no next token", "Call extend() first.")
        sums = []
        first_1V = live.next_logits[None]
        for tokens in continuations:
            if not tokens:
                raise InvalidInput("A continuation is empty", "Give at least one token.")
            self._check_tokens(live, tokens)
            after = [self.logits_after(live, tokens[:-1])] if len(tokens) > 1 else []
            logits_TV = torch.cat([first_1V, *after])
            target_T1 = torch.tensor(tokens, device=self.device)[:, None]
            sums.append(torch.log_softmax(logits_TV.float(), -1).gather(1, target_T1).sum().item())
        return sums

    def logits_after(self, live: LiveCache, token_ids: Sequence[int]) -> Tensor:
        """Logits (TV) after each of `token_ids`, read behind `live`, which is left as it was.

        Raises:
            InvalidInput: ids outside the vocabulary, or more positions than the model has.
            FingerprintMismatch: the conversation was read under another adapter.
        """
        self._check_usable(live)
        self._check_tokens(live, token_ids)
        fork, found = live.fork(), []
        step = 1 if self.continuation.mode == "token by token" else len(token_ids)
        for start in range(0, len(token_ids), step):
            piece = list(token_ids[start : start + step])
            found.append(self._forward_live(fork, piece))
            fork.token_ids.extend(piece)
        return torch.cat(found)

    @torch.no_grad()
    def packed_logits(
        self, live: LiveCache, token_ids: Sequence[int], positions: Sequence[int], mask: Tensor, rows: Sequence[int]
    ) -> Tensor:
        """Logits (RV) at `rows` of tokens read after `live`, which is left as it was, at `positions` under `mask`.

        `mask` (1, 1, T, held + T) is added to the attention scores. For plain attention caches (see `memkv.scoring`).

        Raises:
            InvalidInput: more tokens than the model has positions.
            FingerprintMismatch: the conversation was read under another adapter.
        """
        self._check_usable(live)
        self._check_tokens(live, list(token_ids)[: max(positions) + 1 - len(live)])
        kwargs: dict[str, object] = {self._cache_argument: live.fork().cache, "use_cache": True}
        if self._takes_positions:
            kwargs["position_ids"] = torch.tensor([list(positions)], device=self.device)
        if self._takes_logits_to_keep:
            kwargs["logits_to_keep"] = torch.tensor(list(rows), device=self.device)
        logits_TV: Tensor = self.hf(input_ids=self._ids(token_ids), attention_mask=mask, **kwargs).logits[0]
        return logits_TV if self._takes_logits_to_keep else logits_TV[list(rows)]

    def _piece_length(self, already_read: int, tokens: int) -> int:
        """Tokens that the next pass may take. Where only single tokens continue exactly, the first pass takes all."""
        if self.continuation.mode == "token by token":
            return 1 if already_read else tokens
        return PREFILL_PIECE

    def read_alone(self, token_ids: Sequence[int], position: int) -> tuple[LayerState, ...]:
        """Every cache layer after `token_ids`, read in one pass from `position` on with nothing before them."""
        cache = self._fresh_cache()
        self._write_held({})
        self._forward(token_ids, cache, position)
        return tuple(read_layer(layer, len(token_ids)) for layer in cache.layers)

    @torch.no_grad()
    def one_pass_logits(self, token_ids: Sequence[int]) -> Tensor:
        """Logits of every position (TV) by a single pass without a cache: the reference that caches must match."""
        self._write_held({})
        logits_TV: Tensor = self.hf(input_ids=self._ids(token_ids), use_cache=False).logits[0]
        return logits_TV

    # -- snapshots

    def capture(self, live: LiveCache) -> CacheSnapshot:
        """Detach a snapshot: what `live` does next does not change it. Costs the recurrent state's bytes only.

        Raises:
            InvalidInput: an interrupted pass left the cache half written.
        """
        self._check_whole(live)
        layers = tuple(read_layer(layer, len(live)) for layer in live.cache.layers)
        held = {name: tensor.clone() for name, tensor in live.held.items()}
        return CacheSnapshot(layers, tuple(live.token_ids), self._fingerprint_with(live.adapter), held)

    def restore(self, snapshot: CacheSnapshot) -> LiveCache:
        """A live cache that goes on where the snapshot was taken.

        Raises:
            FingerprintMismatch: made by something else than this model; each differing field is named.
            DamagedBlob: its tensors are not what this model makes.
        """
        differences = snapshot.fingerprint.differences(self.fingerprint)
        if differences:
            raise FingerprintMismatch(differences, "Load that model, or rebuild the cache from the stored text.")
        check_layout(snapshot, self._layouts, self._held_layout)
        live = self.new_cache()
        snapshot = snapshot.to(self.device)
        live.cache.layers = [
            fill_layer(layer, state) for layer, state in zip(live.cache.layers, snapshot.layers, strict=True)
        ]
        live.token_ids = list(snapshot.token_ids)
        live.held = {name: tensor.clone() for name, tensor in snapshot.held.items()}
        if any(isinstance(layer, BiasedLayer) for layer in live.cache.layers):
            use_biased_attention(self.hf)
        return live

    # -- adapters

    def load_adapter(self, path: str | Path, name: str) -> None:
        """Add a PEFT adapter from a local folder, switched off until `use_adapter(name)`.

        Raises:
            ModelUnavailable: no adapter there, a damaged one, or one for another model; nothing was changed.
            InvalidInput: the name is taken.
        """
        if name in self._adapters:
            raise InvalidInput(f"An adapter {name!r} is loaded already", "Give it another name.")
        try:
            load_adapter(self.hf, path, name)
            self._adapters[name] = f"{name}:{adapter_hash(self.hf, name)}"
        finally:
            switch_adapter(self.hf, self.adapter)

    def has_adapter(self, name: str) -> bool:
        """Whether an adapter of that name is loaded."""
        return name in self._adapters

    def use_adapter(self, name: str | None) -> None:
        """Switch to adapter `name`, or to the base weights with None. A conversation stays with one adapter.

        Raises:
            ModelUnavailable: it is not loaded.
        """
        switch_adapter(self.hf, name)
        self.adapter = name

    @contextmanager
    def with_adapter(self, name: str | None) -> Iterator[None]:
        """Use adapter `name` inside the block."""
        before = self.adapter
        self.use_adapter(name)
        try:
            yield
        finally:
            self.use_adapter(before)

    # -- inside

    def _ids(self, token_ids: Sequence[int]) -> Tensor:
        return torch.tensor([list(token_ids)], dtype=torch.long, device=self.device)

    def _probe_ids(self, count: int) -> list[int]:
        return [3 + i for i in range(count)]

    def _fresh_cache(self) -> Cache:
        return DynamicCache(config=self.hf.config)

    @torch.no_grad()
    def _forward(self, token_ids: Sequence[int], cache: Cache, start: int, keep_all: bool = True) -> Tensor:
        """One pass from position `start`; returns logits (TV), or only the last row."""
        kwargs: dict[str, object] = {self._cache_argument: cache, "use_cache": True}
        if self._takes_positions:
            # Always explicit: Bamba would count from 0, and after eviction the cache is shorter than the conversation.
            kwargs["position_ids"] = torch.arange(start, start + len(token_ids), device=self.device)[None]
        if self._takes_logits_to_keep and not keep_all:
            kwargs["logits_to_keep"] = 1
        logits: Tensor = self.hf(input_ids=self._ids(token_ids), **kwargs).logits[0]
        return logits

    def _forward_live(self, live: LiveCache, token_ids: Sequence[int], keep_all: bool = True) -> Tensor:
        self._write_held(live.held)
        logits = self._forward(token_ids, live.cache, len(live), keep_all)
        live.held = read_module_state(self.hf, self._held_slots)
        for layer in live.cache.layers:
            if isinstance(layer, BiasedLayer) and not layer.bias_applied:
                raise UnsupportedModel(
                    f"{self.name} does not pass cached keys straight to its attention function",
                    "Use another codec than attention matching for this model.",
                )
        return logits

    def _write_held(self, held: dict[str, Tensor]) -> None:
        """Put a conversation's module-held state in place; None where it has none yet."""
        for module, attribute in self._held_slots:
            setattr(self.hf.get_submodule(module), attribute, held.get(f"{module}.{attribute}"))

    def _probe_layers(self) -> tuple[LayerState, ...]:
        """Every layer after two tokens: shows kinds, shapes and dtypes on real tensors."""
        return self.read_alone(self._probe_ids(2), 0)

    @property
    def _check_key(self) -> str:
        return f"{self._weights}-{self.dtype}-{self.hf.config._attn_implementation}"

    def _check(self) -> Continuation:
        """Run the self-check, in fp32 where that fits, and remember its answer."""
        original = self.hf
        if self.dtype != torch.float32 and original.num_parameters() <= FP32_CHECK_PARAMETERS:
            self.hf = copy.deepcopy(original).float()
        try:
            vocab = self.hf.config.get_text_config(decoder=True).vocab_size
            found = check_continuation(self.one_pass_logits, self._logits_in_pieces, vocab)
        finally:
            self.hf = original
        remember_continuation(self._check_key, found)
        return found

    def _logits_in_pieces(self, pieces: Sequence[Sequence[int]]) -> Tensor:
        live = self.new_cache()
        logits = torch.empty(0)
        for piece in pieces:
            logits = self._forward_live(live, piece)
            live.token_ids.extend(piece)
        return logits

    def _check_whole(self, live: LiveCache) -> None:
        if live.broken:
            raise InvalidInput(
                "A forward pass over this cache was interrupted, so its layers differ in length",
                "Go on from a fork taken before, or restore the session.",
            )

    def _check_usable(self, live: LiveCache) -> None:
        self._check_whole(live)
        if live.adapter != self.adapter:
            raise FingerprintMismatch(
                {"adapter": (str(live.adapter), str(self.adapter))}, "Switch back with use_adapter()."
            )

    def _check_tokens(self, live: LiveCache, token_ids: Sequence[int]) -> None:
        if len(token_ids) == 0:
            raise InvalidInput("There are no tokens to read", "Give at least one.")
        vocab = self.hf.config.get_text_config(decoder=True).vocab_size
        if not all(0 <= token < vocab for token in token_ids):
            raise InvalidInput(f"A token id is outside the vocabulary of {vocab}", "Use this model's tokenizer.")
        if self.max_tokens is not None and len(live) + len(token_ids) > self.max_tokens:
            raise InvalidInput(
                f"{len(live)} tokens read and {len(token_ids)} new ones are more than the {self.max_tokens} positions "
                f"of {self.name}",
                "Compact the session first (/compact in the chat), or send less text at once.",
            )
