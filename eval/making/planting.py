"""Frames: how a rule comes up in a conversation, and how it is taken back, moved to somebody else or merely quoted.

The assistant's replies never repeat a value; else the rule would be in the conversation twice. Templates hold inline
choices `{a|b}`; no sentence of a frame is said twice in a conversation.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import yaml

from eval.making.filler import SHORT, Exchange, without_thirds
from eval.scenarios import Turn, build
from memkv.errors import ConfigError

PHRASES = Path(__file__).parent / "frames.yaml"
CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+")
TRIES = 40


@dataclass(frozen=True)
class Phrases:
    """What frames are worded with; `eval/making/frames.yaml`."""

    acknowledged: tuple[str, ...]
    list_intros: tuple[str, ...]
    list_ends: tuple[str, ...]
    leads: tuple[str, ...]
    checks: tuple[str, ...]
    guesses: tuple[str, ...]
    corrections: tuple[str, ...]
    regrets: tuple[str, ...]
    changes: tuple[str, ...]
    changes_in_passing: tuple[str, ...]
    revocations: tuple[str, ...]
    document_intros: tuple[str, ...]
    titles: tuple[str, ...]
    document: tuple[str, ...]
    adoptions: tuple[str, ...]
    scopes: tuple[str, ...]
    places: tuple[str, ...]
    quotes: tuple[str, ...]
    quote_replies: tuple[str, ...]
    injections: tuple[str, ...]
    strangers: tuple[str, ...]
    stranger_ends: tuple[str, ...]
    injection_replies: tuple[str, ...]


@lru_cache
def load_phrases(path: Path = PHRASES) -> Phrases:
    """Read the phrases.

    Raises:
        ConfigError: unreadable, an unknown or missing key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Check the path and the YAML.") from error
    phrases: Phrases = build(Phrases, data, str(path))
    return phrases


def for_training(phrases: Phrases) -> Phrases:
    """The phrases without every third of each kind, which nothing that is trained has ever read."""
    kinds = {field.name: getattr(phrases, field.name) for field in fields(phrases)}
    return Phrases(**{name: without_thirds(templates) for name, templates in kinds.items()})


class Frames:
    """Composes messages around rules, without saying a sentence of its own twice.

    Args:
        rng: draws the phrases.
        training: leave out the phrases that are kept from training.
    """

    def __init__(self, rng: random.Random, training: bool = False) -> None:
        self.rng = rng
        self.phrases = for_training(load_phrases()) if training else load_phrases()
        self.said: set[str] = set()

    def say(self, templates: Sequence[str], **slots: str) -> str:
        """One template with its choices made, new as far as there is something new, and its slots filled."""
        for _ in range(TRIES):
            phrase = self._choose(self.rng.choice(templates))
            parts = {part for part in SENTENCE_END.split(phrase) if len(part.split()) > SHORT}
            if not parts & self.said:
                break
        self.said |= parts
        for name, text in slots.items():
            phrase = phrase.replace(f"{{{name}}}", text)
        return phrase

    def _choose(self, template: str) -> str:
        """Inline choices made; those that hold slots too."""
        marked = re.sub(r"\{(\w+)\}", r"<\1>", template)
        while CHOICE.search(marked):
            marked = CHOICE.sub(lambda match: self.rng.choice(match[1].split("|")), marked)
        return re.sub(r"<(\w+)>", r"{\1}", marked)

    def policy(self, texts: Sequence[str]) -> tuple[Turn, ...]:
        """Several rules as a numbered list."""
        items = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
        lines = [self.say(self.phrases.list_intros), *items, self.say(self.phrases.list_ends)]
        return self._exchange("\n".join(lines), self.say(self.phrases.acknowledged))

    def passing(self, text: str, around: Exchange) -> tuple[Turn, ...]:
        """One sentence inside a message about something else; the answer is about the something else."""
        return self._inside(self._lead(text), around)

    def corrected(self, text: str, topic: str, wrong: str) -> tuple[Turn, ...]:
        """The assistant does otherwise and is put right; the rule is in the third message."""
        return (
            *self._exchange(self.say(self.phrases.checks, topic=topic), self.say(self.phrases.guesses, act=wrong)),
            *self._exchange(self.say(self.phrases.corrections, text=text), self.say(self.phrases.regrets)),
        )

    def pasted(self, text: str) -> tuple[Turn, ...]:
        """Inside a longer document that the user makes their own."""
        n_before, n_after = self.rng.randint(1, 3), self.rng.randint(1, 2)
        lines = [self.say([template]) for template in self.rng.sample(self.phrases.document, n_before + n_after)]
        body = [*lines[:n_before], text, *lines[n_before:]]
        page = self._page(self.say(self.phrases.titles), body)
        parts = [self.say(self.phrases.document_intros), page, self.say(self.phrases.adoptions)]
        return self._exchange("\n".join(parts), self.say(self.phrases.acknowledged))

    def changed(self, text: str, topic: str) -> tuple[Turn, ...]:
        """A new value for an old rule."""
        return self._exchange(
            self.say(self.phrases.changes, text=text, topic=topic), self.say(self.phrases.acknowledged)
        )

    def changed_in_passing(self, text: str, around: Exchange) -> tuple[Turn, ...]:
        """A new value for an old rule, inside a message about something else."""
        return self._inside(self.say(self.phrases.changes_in_passing, text=text), around)

    def revoked(self, topic: str) -> tuple[Turn, ...]:
        """A rule is taken back."""
        return self._exchange(self.say(self.phrases.revocations, topic=topic), self.say(self.phrases.acknowledged))

    def revoked_in_passing(self, topic: str, around: Exchange) -> tuple[Turn, ...]:
        """A rule is taken back inside a message about something else."""
        return self._inside(self.say(self.phrases.revocations, topic=topic), around)

    def scoped(self, text: str) -> tuple[Turn, ...]:
        """A rule for somebody else."""
        return self._exchange(
            self.say(self.phrases.scopes, text=text, place=self.say(self.phrases.places)),
            self.say(self.phrases.quote_replies),
        )

    def quoted(self, text: str) -> tuple[Turn, ...]:
        """A rule that is only told about."""
        return self._exchange(self.say(self.phrases.quotes, text=text), self.say(self.phrases.quote_replies))

    def injected(self, text: str) -> tuple[Turn, ...]:
        """A stranger's instruction in pasted text."""
        page = self._page(self.say(self.phrases.strangers), [text, self.say(self.phrases.stranger_ends)])
        return self._exchange(f"{self.say(self.phrases.injections)}\n{page}", self.say(self.phrases.injection_replies))

    def _lead(self, text: str) -> str:
        """With or without something that leads over to it."""
        lead = self.say(self.phrases.leads)
        return f"{lead} {text}" if lead else text

    def _inside(self, text: str, around: Exchange) -> tuple[Turn, ...]:
        """A sentence in the middle or at the end of a message; half of the time the reply says that it was heard."""
        place = self.rng.randint(1, len(around.user))
        user = [*around.user[:place], text, *around.user[place:]]
        heard = [self.say(self.phrases.acknowledged)] if self.rng.random() < 0.5 else []
        return self._exchange(" ".join(user), " ".join([*around.assistant, *heard]))

    def _page(self, title: str, sentences: Sequence[str]) -> str:
        """Quoted text, one paragraph a few sentences."""
        return "\n".join(f"> {line}" for line in (title, " ".join(sentences)))

    def _exchange(self, user: str, assistant: str) -> tuple[Turn, ...]:
        """A message and its answer."""
        return (Turn("user", user), Turn("assistant", assistant))
