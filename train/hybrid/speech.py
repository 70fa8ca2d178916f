"""Conversations to learn from: the base's own, and ones with rules and questions that only they answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from eval.generate import Config as Generate
from eval.generate import scenarios
from eval.reading import dated
from eval.scenarios import to_message
from memkv.model import HybridModel
from memkv.turns import Message
from train.chats import Chat, read_chats
from train.hybrid.config import Corpus

AT_ONCE = 32  # conversations that are written side by side
LONGEST_REPLY = 160  # tokens
TEMPERATURE, TOP_P = 0.8, 0.95


def episodes(config: Corpus, model: HybridModel) -> list[str]:
    """Conversations of train families that lay down rules, with questions at their end and the right answers."""
    like = Generate(tokens=config.episode_tokens, rounds=1, meetings=1, rules=6, never=2, probes=14)
    count = config.episodes + config.episodes % 2
    found = []
    for scenario in scenarios("train", count, f"hybrid/{config.seed}", like) if count else ():
        messages = [to_message(turn) for turn in scenario.turns]
        asked = [probe for probe in scenario.probes if probe.options]
        random.Random(scenario.id).shuffle(asked)
        for probe in asked:
            messages.append(Message(role="user", content=dated(scenario, probe)))
            messages.append(Message(role="assistant", content=probe.options[probe.answer].strip()))
        found.append(model.chat.stable(messages))
    return found[: config.episodes]


def chats(config: Corpus, model: HybridModel, say: Callable[[str], None]) -> list[str]:
    """Conversations in which the base answers what people might type; drawn with the corpus's seed.

    Args:
        config: how many, and of how many messages.
        model: the base.
        say: told how far it is; a thousand replies take a quarter of an hour on two cores.
    """
    rng = random.Random(f"hybrid/{config.seed}")
    known = read_chats() if config.chats else []
    opened = [opening(rng.choice(known), config.chat_turns, rng) for _ in range(config.chats)]
    found: list[list[Message]] = [[] for _ in opened]
    torch.manual_seed(config.seed)
    for turn in range(config.chat_turns):
        for start in range(0, len(opened), AT_ONCE):
            group = range(start, min(start + AT_ONCE, len(opened)))
            for n in group:
                found[n].append(Message(role="user", content=opened[n][turn]))
            for n, text in zip(group, replies(model, [found[n] for n in group]), strict=True):
                found[n].append(Message(role="assistant", content=text))
            say(f"Replies of the model: {turn * len(opened) + group.stop:,} of {config.chat_turns * len(opened):,}")
    return [model.chat.stable(messages) for messages in found]


def opening(chat: Chat, turns: int, rng: random.Random) -> list[str]:
    """Messages of a chat that follow one another; a short chat begins again."""
    first = rng.randrange(len(chat))
    return [chat[(first + n) % len(chat)].said for n in range(turns)]


def replies(model: HybridModel, conversations: Sequence[Sequence[Message]]) -> list[str]:
    """What the base answers to each."""
    asked = [model.chat.encode(model.chat.render(each, open_reply=True)) for each in conversations]
    width = max(map(len, asked))
    pad = model.chat.stop_ids[0]
    ids = torch.tensor([[pad] * (width - len(each)) + each for each in asked], device=model.device)
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in asked], device=model.device)
    hf: Any = model.hf
    with torch.no_grad():
        written = hf.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=LONGEST_REPLY, do_sample=True, temperature=TEMPERATURE,
            top_p=TOP_P, eos_token_id=list(model.chat.stop_ids), pad_token_id=pad,
        )  # fmt: skip
    return [model.chat.decode(until(row[width:].tolist(), model.chat.stop_ids)).strip() for row in written]


def until(tokens: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Tokens before the first that ends a reply."""
    end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[:end])
