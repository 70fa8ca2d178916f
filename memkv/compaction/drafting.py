"""A policy's answer, greedily, a few tokens at a time: most of it can be guessed.

After a letter comes the next one, and a note that has begun like a sentence of the conversation goes on like it. What
was guessed is read in one pass, and holds up to the first token that the model would not have written (speculative
decoding, arXiv 2211.17192; the draft is looked up in the prompt as in "prompt lookup decoding"). The answer is what
token by token would have come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

import torch

from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.turns import ChatFormat

LOOKED_UP = 2  # last tokens that must have come before for what followed them to be guessed
AT_ONCE = 12  # tokens of a guess


def drafted(model: HybridModel, live: LiveCache, letters: Sequence[str], most: int) -> Iterator[tuple[int, float]]:
    """Tokens of the answer behind `live`, at most `most`, with their probabilities; the one that ends it is left out.

    Args:
        model: with the policy's adapter on.
        live: has read the prompt; the answer is read into it.
        letters: of the messages, in the order in which they are gone through.
        most: tokens of the answer.
    """
    stops = set(model.chat.stop_ids)
    guesses = model.continuation.mode != "token by token"  # a guess would be read token by token too
    asked = list(live.token_ids)
    while (left := most - (len(live) - len(asked))) > 0:
        guess = guessed(model.chat, live.token_ids[len(asked) :], letters, asked)[: left - 1] if guesses else []
        # The end of a message in the prompt is no part of a guess: the answer ends where the model chooses to end it.
        guess = list(takewhile(lambda token: token not in stops, guess))
        assert live.next_logits is not None
        after = [model.logits_after(live, guess)] if guess else []
        logits_NV = torch.cat([live.next_logits[None], *after])
        chosen = logits_NV.argmax(-1).tolist()
        likely = logits_NV.float().softmax(-1).amax(-1).tolist()
        held = next((at for at, token in enumerate(guess) if token != chosen[at]), len(guess))
        new = [*guess[:held], *([chosen[held]] if chosen[held] not in stops else [])]
        if new:
            model.extend(live, new)
        yield from zip(new, likely, strict=False)
        if chosen[held] in stops:
            return


def guessed(chat: ChatFormat, answer: Sequence[int], letters: Sequence[str], asked: Sequence[int]) -> list[int]:
    """What may follow an answer: at the beginning of a line the letters that are left, inside it what was said.

    Args:
        chat: knows the tokenizer.
        answer: tokens so far.
        letters: of all messages.
        asked: tokens of the prompt.
    """
    text = chat.decode(answer)
    if not text or text.endswith("\n"):
        lines = text.split("\n")
        passed = max((at for at, letter in enumerate(letters) if letter in lines), default=-1)
        return chat.encode("\n".join(letters[passed + 1 :]))[:AT_ONCE]
    last = list(answer[-LOOKED_UP:])
    for at in range(len(asked), LOOKED_UP - 1, -1):  # the newest place first
        if list(asked[at - LOOKED_UP : at]) == last:
            return list(asked[at : at + AT_ONCE])
    return []
