"""Text as sentences: lines, list entries under their headings, quotations, and who speaks in a transcript."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from eval.prose.tokens import Token, tokenise
from memkv.turns import Message

ROLE = re.compile(r"^\s*(?:<\|im_start\|>)?(system|user|assistant)(?:\s*:\s*|\s*$)", re.IGNORECASE)
BULLET = re.compile(r"^\s*(?:[-*•–—+]\s+|\(?\d{1,2}[.):](?=\s)\s*|\(?[a-zA-Z][.)]\s+)(?=\S)")
# "1) ... 2) ..." and "... . 2. ..." inside a line.
INLINE_ENTRY = re.compile(r"(?:(?<=\s)|^)\(?\d{1,2}\)\s+|(?<=[.!?;:]\s)\d{1,2}\.\s+(?=[A-Z])")
ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|mr|mrs|ms|dr|prof|vs|approx|incl|excl|cf|dept|fig|st|inc|ltd)|\b[A-Za-z]|\b(?:[a-z]\.)+[a-z])$",
    re.IGNORECASE,
)
END = re.compile(r"([.!?]+[\"”'’)\]]*|;)\s+")
MARKUP = re.compile(r"\*\*|__|`|<\|[^|>]*\|>")
# Tokens. Nobody writes such a sentence; a model that repeats itself does.
LONGEST = 150
DOUBLE = re.compile('["“”„«»]')


@dataclass(frozen=True)
class Sentence:
    """One sentence or list entry with its surroundings.

    Attributes:
        text: as written, bullets and emphasis taken off.
        tokens: of `text`.
        stems: of `tokens`.
        heading: tokens of the line ending in ":" (or the title) that it stands under.
        unit: number of the line or list entry that it is part of.
        entry: whether that is a list entry.
        paragraph: number of the paragraph; a list belongs to its heading's.
        question: whether it asks.
        quoted: whether it starts inside a quotation (marks opened earlier, a fence, or ">").
        role: who speaks, in a transcript that says so.
    """

    text: str
    tokens: tuple[Token, ...]
    stems: frozenset[str]
    heading: tuple[Token, ...] = ()
    unit: int = 0
    entry: bool = False
    paragraph: int = 0
    question: bool = False
    quoted: bool = False
    role: str = ""


def transcript_of(messages: Sequence[Message]) -> str:
    """Messages as a text for `said(..., transcript=True)`: oldest first, each under the name of its role."""
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


@lru_cache(maxsize=64)
def sentences(text: str) -> tuple[Sentence, ...]:
    """All sentences of `text`, in order. Kept for the last texts, as every rule is looked for in the same one."""
    return tuple(_sentences(text))


def _sentences(text: str) -> Iterator[Sentence]:
    """Go through the lines with what the lines before have set: heading, role, open quotation."""
    heading: tuple[Token, ...] = ()
    fresh = False  # the heading was the line before
    role, unit, paragraph, fence, quoting = "", 0, 0, False, False
    for line in joined(text.splitlines()):
        spoken = ROLE.match(line)
        if spoken:
            role, line, heading, quoting, fence = spoken[1].lower(), line[spoken.end() :], (), False, False
            paragraph += 1
        if line.strip().startswith("```"):
            fence = not fence
            continue
        if not line.strip():
            paragraph += 0 if heading else 1
            quoting = False
            continue
        block = line.lstrip().startswith(">")
        line = MARKUP.sub("", line.lstrip("> ") if block else line).strip()
        title = line.startswith("#")
        bullet = BULLET.match(line)
        bare = line[bullet.end() :] if bullet else line.lstrip("# ")
        if heading and not bullet and not fresh and not fence and not block:
            heading = ()
            paragraph += 1
        if not bare:
            continue
        if title or bare.endswith(":"):
            heading, fresh = tokenise(bare), True
            paragraph += 1
        for piece in INLINE_ENTRY.split(bare):
            unit += 1
            for sentence in split(piece):
                marks = len(DOUBLE.findall(sentence))
                tokens = tokenise(sentence)
                if not tokens:
                    continue
                for part in readable(tokens):
                    yield Sentence(
                        text=sentence,
                        tokens=part,
                        stems=frozenset(token.stem for token in part),
                        heading=() if title or bare.endswith(":") else heading,
                        unit=unit,
                        entry=bool(bullet) or piece is not bare,
                        paragraph=paragraph,
                        question=sentence.rstrip("\"”'’)] ").endswith("?"),
                        quoted=quoting or fence or block,
                        role=role,
                    )
                quoting ^= bool(marks % 2)
        fresh = fresh and (title or bare.endswith(":"))


def readable(tokens: tuple[Token, ...]) -> Iterator[tuple[Token, ...]]:
    """Tokens in runs of at most LONGEST, cut behind commas where possible: the time to read grows as their cube."""
    while len(tokens) > LONGEST:
        cut = next((at + 1 for at in range(LONGEST - 1, 0, -1) if tokens[at].word == ","), LONGEST)
        yield tokens[:cut]
        tokens = tokens[cut:]
    yield tokens


def joined(lines: list[str]) -> Iterator[str]:
    """Lines with hard wraps undone: a line that goes on in lower case continues one without an end."""
    held = ""
    for line in lines:
        bare = line.strip()
        if held and bare[:1].islower() and held.rstrip()[-1:] not in ".!?:;" and not BULLET.match(line):
            held = f"{held.rstrip()} {bare}" if not ROLE.match(line) else held
            if not ROLE.match(line):
                continue
        if held:
            yield held
        held = line if bare else ""
        if not bare:
            yield ""
    if held:
        yield held


def split(text: str) -> Iterator[str]:
    """Sentences of one line; decimals and abbreviations do not end one."""
    start = 0
    for match in END.finditer(text):
        if match[1] == "." and ABBREVIATION.search(text[start : match.start()]):
            continue
        yield text[start : match.end()].strip()
        start = match.end()
    if text[start:].strip():
        yield text[start:].strip()
