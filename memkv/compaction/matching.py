"""What a policy means by its words: which sentence of the conversation, which of its notes.

A small model copies nearly well and looks up badly, so neither is left to it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from operator import itemgetter

from memkv.compaction.rules import BINDING
from memkv.compaction.windows import quoted, sentences

ALIKE = 0.6  # likeness from which on a note is meant to be a sentence of its message
COPIED = 0.95  # from which on it is one of another message: with less it may be that one, changed
STEM = 5  # letters by which words are compared, without an s at their end: approve, approves, approved; call, calls
FUNCTION_WORDS = frozenset(
    "the and for may must not has have had are you your our with that this who when what how any all one will can but "
    "was were into from its his her their them they she him out always never only every each been does did "
    "should".split()
)
MEANT = 0.2  # share of the rarer words, of a note or of what names it, that both must hold
SAME = 0.4  # the share from which on a new note takes the place of another, if its message speaks of a change
SPEAKS_OF_CHANGE = re.compile(
    r"\b(change[ds]?|instead|rather than|no longer|any ?more|from now on|as of|anew|amend\w*|different(ly)?|replac\w+"
    r"|updated?|moved on|used to|so far|these days|until now|(forget|unlike) what|(told|said) .*\bbefore|than before"
    r"|(the|that|an) old|new (since|rule)|(is|are|something|things?) (now|new)|now (is|are|has|have|must|may|\d)"
    r"|make (it|that)|correction|going forward|henceforth|after all|in place of|swapped|raised|rose to|scratch"
    r"|from (today|tonight|here on)|shift(s|ed|ing)?|(moves?|moved|switch(es)?|switched) (\w+ )?to"
    r"|takes? (over|(his|her|their|its) place))\b",
    re.IGNORECASE,
)
RULE = r"(rule|agreement|policy)"
OVER = r"(is|are|was|has been|have been) (now )?(off|over|lifted|withdrawn|gone|dropped|scrapped|cancel\w+|void)"
TAKES_BACK = re.compile(
    rf"\bforget (what (i|we) (said|told)|about|(that|the|this|our) {RULE}|(it|that)(?=\W*$))"
    rf"|\b(drop|withdraw|lift|cancel|scrap)\w* (the|that|this|our) (\w+ ){{0,4}}?{RULE}\b"
    rf"|\b{RULE}\b[^.;?]*? {OVER}\b"
    rf"|(^|[,;:] ?)(that|it) {OVER}\b"
    r"|(?<!\bthat )(?<!\bwhich )\bno longer (holds?|appl(y|ies)|counts?|binds?)\b|\bno force\b",
    re.IGNORECASE,
)
# What stands before such words where they take nothing back: "never lift that rule", "once the policy is cancelled".
SAYS_NOT_SO = re.compile(
    r"(\b(never|not|always|to|did you|do you|unless|until|after|before|when|if|whether|once)|n't)"
    r"( (the|this|our|we|you|ever|just))*\s*$",
    re.IGNORECASE,
)
CLAUSE_END = re.compile(r"[,;:]| [-–—] ")
DATE = re.compile(
    r"\b(until|january|february|march|april|may|june|july|august|september|october|november|december|\d+)\b",
    re.IGNORECASE,
)


def as_said(note: str, under: int | None, said: Sequence[Sequence[str]]) -> tuple[str, int | None]:
    """The sentence that a note is, but for slips, and its message; where it is none, the note as it stands.

    One that is copied from another message than `under` is of that one: letters slip too.
    """
    own = range(len(said)) if under is None or under >= len(said) else (under,)
    for messages, least in ((own, ALIKE), (range(len(said)), COPIED)):
        sentences = [(likeness(note, sentence), sentence, at) for at in messages for sentence in said[at]]
        alike, best, at = max(sentences, key=itemgetter(0), default=(0.0, note, None))
        if alike >= least:
            return best, at
    return note, under


def likeness(note: str, sentence: str) -> float:
    """How far two texts are the same words in one order, from 0 to 1; what leads up to the note does not count."""
    first, second = (re.findall(r"[\w']+", text.lower()) for text in (note, sentence))
    blocks = [block for block in SequenceMatcher(None, first, second, False).get_matching_blocks() if block.size]
    shared = sum(block.size for block in blocks)
    led_up = blocks[0].b - blocks[0].a if blocks else 0  # words before the note begins
    return 2 * shared / max(1, len(first) + len(second) - max(0, led_up))


def takes_back(sentence: str) -> bool:
    """Whether a sentence says that a rule is over, and nothing else: it asks nothing, and names no rule instead."""
    over = says_over(sentence)
    return over is not None and not any(
        BINDING.search(clause) for clause in CLAUSE_END.split(sentence[over.end() :])[1:]
    )


def says_over(sentence: str) -> re.Match[str] | None:
    """Where a sentence says that a rule is over, if it does and does not ask or warn of it."""
    over = TAKES_BACK.search(sentence)
    if over is None or sentence.rstrip().endswith("?") or SAYS_NOT_SO.search(sentence[: over.start()]):
        return None
    return over


def instead(note: str, under: int | None, said: Sequence[Sequence[str]]) -> str | None:
    """Of a note that only takes a rule back, the next sentence of its message that is about the same, if any is."""
    message = said[under] if under is not None and under < len(said) else []
    behind = message[message.index(note) + 1 :] if note in message else []
    about = (sentence for sentence in behind if meant(sentence, {0: note}, fewest=2) is not None)
    return next((sentence for sentence in about if not takes_back(sentence)), None)


def of_change(note: str, message: str) -> bool:
    """Whether a message speaks of a change where it says a note: in that sentence, or in the one before it."""
    said = sentences(message)
    at = next((at for at, sentence in enumerate(said) if note in (sentence, quoted(sentence))), None)
    near = said if at is None else said[max(0, at - 1) : at + 1]
    return any(SPEAKS_OF_CHANGE.search(sentence) or says_over(sentence) for sentence in near)


def replaced(note: str, message: str, notes: Mapping[int | None, str]) -> int | None:
    """Number of the note whose place a new one takes, if its message speaks of a change. Dates are left aside."""
    if not of_change(note, message):
        return None
    return meant(DATE.sub(" ", note), {n: DATE.sub(" ", text) for n, text in notes.items()}, SAME, 2)


def meant(words: str, notes: Mapping[int | None, str], least: float = MEANT, fewest: int = 1) -> int | None:
    """Number of the note that `words` are, or are about: rare words that both hold count most. None where none is.

    Args:
        words: a note, or what names it.
        notes: by their numbers.
        least: share of the rarer words, of a note or of `words`, that both must hold.
        fewest: words that both must hold.
    """
    said = words.casefold()
    if (same := next((n for n, note in notes.items() if note.casefold() == said), None)) is not None:
        return same
    stems = {n: stems_of(note) for n, note in notes.items()}
    seen = Counter(stem for each in stems.values() for stem in each)

    def weight(some: set[str]) -> float:
        """Of words: the rarer among the notes, the more."""
        return sum(math.log(1 + len(notes) / max(1, seen[stem])) for stem in some)

    asked = stems_of(words)
    shared = {n: weight(each & asked) for n, each in stems.items() if each & asked}
    near = {n: found / math.sqrt(weight(stems[n])) for n, found in shared.items()}
    best = max(near, key=lambda n: near[n], default=None)
    if best is None or len(stems[best] & asked) < fewest:
        return None
    return best if shared[best] >= least * min(weight(stems[best]), weight(asked)) else None


def stems_of(text: str) -> set[str]:
    """What a text's content words begin with."""
    words = re.findall(r"[^\W\d_]{3,}|\d+", text.lower())
    return {word.removesuffix("s")[:STEM] for word in words if word not in FUNCTION_WORDS}
