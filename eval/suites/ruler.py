"""RULER (Hsieh et al., arXiv 2404.06654) through lm-eval's generators: needles, variable tracking, word extraction.

Every sample is made by lm-eval's own functions with the model's own tokenizer; the table below names their arguments.
The last line of a prompt is the question, what stands before it is the context. Scoring is lm-eval's string match.

Tasks with essays as haystack need two downloads: the essays (from the Hugging Face hub, or `--essays DIR`) and NLTK's
sentence splitter `punkt_tab` (`--nltk-data DIR`). `niah_multivalue@repeat` and the like put the same needles into the
repeated sentences of `niah_single_1`, which need no download; their scores are not those of the published tasks.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from eval.suites.sample import Sample
from memkv.errors import ConfigError, InvalidInput
from memkv.model import HybridModel

Haystack = Literal["repeat", "needle", "essay"]


@dataclass(frozen=True)
class Needles:
    """What is hidden and what is asked for; RULER's table of tasks (synthetic.yaml).

    Attributes:
        haystack: the same few sentences again and again, needles that are not asked for, or essays.
        keys: what a needle goes by: words or uuids.
        values: what is asked for: numbers or uuids.
        n_keys, n_values, n_queries: needles by key, values of each, keys asked for.
    """

    haystack: Haystack
    keys: Literal["words", "uuids"] = "words"
    values: Literal["numbers", "uuids"] = "numbers"
    n_keys: int = 1
    n_values: int = 1
    n_queries: int = 1


NEEDLES: dict[str, Needles] = {
    "niah_single_1": Needles("repeat"),
    "niah_single_2": Needles("essay"),
    "niah_single_3": Needles("essay", values="uuids"),
    "niah_multikey_1": Needles("essay", n_keys=4),
    "niah_multikey_2": Needles("needle"),
    "niah_multikey_3": Needles("needle", keys="uuids", values="uuids"),
    "niah_multivalue": Needles("essay", n_values=4),
    "niah_multiquery": Needles("essay", n_queries=4),
}
NEEDLE_TOKENS = 128  # what lm-eval leaves for a needle's answer
OTHERS = ("vt", "cwe", "fwe")
TASKS = (*NEEDLES, *OTHERS)
# What runs without a download.
OFFLINE = (
    "niah_single_1",
    "niah_multikey_2",
    "niah_multikey_3",
    "niah_multivalue@repeat",
    "niah_multiquery@repeat",
    *OTHERS,
)
NO_DOWNLOAD = f"Tasks that need no download: {', '.join(OFFLINE)}."
SHORTEST = 1024
# What a sample may be longer than the one that was measured: names and numbers differ in their tokens.
SLACK = 1.1

ESSAYS = "baber/paul_graham_essays"
PUNKT = "tokenizers/punkt_tab"

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Where texts come from that lm-eval would download.

    Attributes:
        essays: folder of .txt files to use as haystack instead of the hub's essays.
        nltk_data: folder of NLTK data that holds tokenizers/punkt_tab.
    """

    essays: Path | None = None
    nltk_data: Path | None = None


def samples(
    tasks: Sequence[str],
    lengths: Sequence[int],
    count: int,
    model: HybridModel,
    seed: int = 0,
    source: Source | None = None,
) -> list[Sample]:
    """`count` samples of each task at each length (tokens of prompt and answer, without the chat format around them).

    At the model's own number of positions the chat format may be too much; such a sample fails by name when it is run.

    The same seed gives the same samples, whatever other tasks and lengths are asked for.

    Raises:
        ConfigError: lm-eval is missing, an unknown task, or texts that need a download which is not there.
        InvalidInput: a length that is too small for the task with this tokenizer.
    """
    for length in lengths:
        if length < SHORTEST:
            raise InvalidInput(f"RULER at {length} tokens is not defined", f"Use {SHORTEST} or more.")
    plans = {task: needles_of(task) for task in tasks}
    modules = load_modules(source or Source())
    haystacks = {
        needles.haystack: haystack(modules, needles.haystack, source or Source())
        for needles in plans.values()
        if needles is not None
    }
    found = []
    for task, needles in plans.items():
        for length in lengths:
            with seeded(seed, modules), quiet():
                if needles is None:
                    documents = GENERATORS[task](modules, model.chat.tokenizer, length, count)
                else:
                    documents = hide(modules, model.chat.tokenizer, length, count, needles, haystacks[needles.haystack])
            found += [to_sample(modules, task, length, document) for document in documents]
    return found


def needles_of(task: str) -> Needles | None:
    """What a needle task hides; None for the other tasks.

    Raises:
        ConfigError: there is no such task or haystack.
    """
    name, at, where = task.partition("@")
    if name in OTHERS and not at:
        return None
    if name not in NEEDLES:
        raise ConfigError(f"RULER has no task {task!r}", f"Known: {', '.join(TASKS)}. {NO_DOWNLOAD}")
    if not at:
        return NEEDLES[name]
    for kind in get_args(Haystack):
        if where == kind:
            return replace(NEEDLES[name], haystack=kind)
    raise ConfigError(f"There is no haystack {where!r}", f"Write {name}@repeat, {name}@needle or {name}@essay.")


@dataclass(frozen=True)
class Modules:
    """lm-eval's modules."""

    common: Any
    niah: Any
    prepare: Any
    vt: Any
    cwe: Any
    fwe: Any


def load_modules(source: Source) -> Modules:
    """Import lm-eval's generators. They look for NLTK's data at import, and try to download it.

    Raises:
        ConfigError: lm-eval or a package that it needs is not installed.
    """
    try:
        if source.nltk_data is not None:
            folders: list[str] = import_module("nltk.data").path
            if str(source.nltk_data) not in folders:
                folders.insert(0, str(source.nltk_data))
        with quiet():
            names = ("common_utils", "niah_utils", "prepare_niah", "vt_utils", "cwe_utils", "fwe_utils")
            return Modules(*(import_module(f"lm_eval.tasks.ruler.{name}") for name in names))
    except ImportError as error:
        raise ConfigError(
            f"RULER's generators come with lm-eval, which cannot be imported ({error})", "pip install 'memkv[ruler]'"
        ) from error


def haystack(modules: Modules, kind: Haystack, source: Source) -> list[str] | str:
    """The haystack as lm-eval's generator takes it; essays as a list of words.

    Raises:
        ConfigError: the essays or NLTK's sentence splitter are not there.
    """
    if kind != "essay":
        return str(modules.prepare.get_haystack(type_haystack=kind))
    try:
        modules.prepare.nltk.data.find(PUNKT)
    except LookupError as error:
        raise ConfigError(
            "Tasks with essays need NLTK's sentence splitter punkt_tab, which is not on this machine",
            "Where there is a network: python -m nltk.downloader -d DIR punkt_tab; then name it: --nltk-data DIR. "
            + NO_DOWNLOAD,
        ) from error
    if source.essays is not None:
        return read_essays(source.essays)
    try:
        with quiet():
            words: list[str] = modules.prepare.get_haystack(type_haystack="essay")
            return words
    except OSError as error:
        raise ConfigError(
            f"Tasks with essays need the data set {ESSAYS}, which cannot be had ({error})",
            f"Run once where the hub can be reached, or name a folder of .txt files: --essays DIR. {NO_DOWNLOAD}",
        ) from error


def read_essays(folder: Path) -> list[str]:
    """The words of all .txt files in a folder, in the order of their names.

    Raises:
        ConfigError: there are none, or they cannot be read.
    """
    try:
        text = " ".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the essays in {folder}: {error}", "They are plain text in UTF-8.") from error
    if not text.strip():
        raise ConfigError(f"There is no text in {folder}", "Put essays there as .txt files.")
    return re.sub(r"\s+", " ", text).strip().split(" ")


def hide(
    modules: Modules, tokenizer: Any, length: int, count: int, needles: Needles, hay: list[str] | str
) -> list[Document]:
    """Needle samples.

    Raises:
        InvalidInput: they do not fit into the length.
    """
    try:
        documents: list[Document] = modules.prepare.generate_samples(
            hay,
            TOKENIZER=tokenizer,
            max_seq_length=length,
            template=modules.niah.TEMPLATE,
            type_haystack=needles.haystack,
            type_needle_k=needles.keys,
            type_needle_v=needles.values,
            num_needle_k=needles.n_keys,
            num_needle_v=needles.n_values,
            num_needle_q=needles.n_queries,
            num_samples=count,
        )
    except (ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"lm-eval makes no such sample of {length} tokens: {error}", "Use a larger length."
        ) from error
    return documents


def track_variables(modules: Modules, tokenizer: Any, length: int, count: int) -> list[Document]:
    """Variable tracking: chains of assignments, behind one solved example of 500 tokens.

    Raises:
        InvalidInput: see `ensure_room`.
    """
    make, left = modules.vt.sys_vartrack_w_noise_random, modules.vt.CONFIG["variable_tracking"]["tokens_to_generate"]
    ensure_room("vt", tokenizer, modules.vt.generate_input_output(5, 1, 4, is_icl=True)[0], left, 500)
    example = make(tokenizer=tokenizer, num_samples=1, max_seq_length=500, incremental=5)[0]
    smallest = example["input"] + modules.vt.generate_input_output(10, 1, 4)[0]
    ensure_room("vt", tokenizer, smallest, left, length)
    documents: list[Document] = make(tokenizer=tokenizer, num_samples=count, max_seq_length=length, icl_example=example)
    return documents


def common_words(modules: Modules, tokenizer: Any, length: int, count: int) -> list[Document]:
    """The ten most common words of a list.

    Raises:
        InvalidInput: see `ensure_room`.
    """
    left = modules.cwe.CONFIG["tokens_to_generate"]
    ensure_room("cwe", tokenizer, modules.cwe.generate_input_output(10, length)[1], left, length)
    documents: list[Document] = modules.cwe.sys_word_pair_random(count, length, tokenizer)
    return documents


def frequent_words(modules: Modules, tokenizer: Any, length: int, count: int) -> list[Document]:
    """The three most frequent words of a coded text. lm-eval leaves no room for the answer in the length here.

    Raises:
        InvalidInput: see `ensure_room`.
    """
    ensure_room("fwe", tokenizer, modules.fwe.TEMPLATE, 0, length)
    documents: list[Document] = modules.fwe.sys_kwext(tokenizer, length, count)
    return documents


GENERATORS: dict[str, Callable[[Modules, Any, int, int], list[Document]]] = {
    "vt": track_variables,
    "cwe": common_words,
    "fwe": frequent_words,
}


def ensure_room(task: str, tokenizer: Any, smallest: str, answer: int, length: int) -> None:
    """Let lm-eval's generators start only where they end: they make samples smaller until one fits, or for ever.

    Raises:
        InvalidInput: the smallest sample takes more than `length` tokens.
    """
    needed = int(len(tokenizer(smallest).input_ids) * SLACK) + answer
    if needed > length:
        raise InvalidInput(
            f"The smallest sample of {task} has {needed} tokens with this tokenizer, more than {length}",
            "Use a larger length, or another task: this one may have a part of fixed length.",
        )


def to_sample(modules: Modules, task: str, length: int, document: Document) -> Sample:
    """One of lm-eval's documents as a sample.

    Raises:
        ConfigError: the last line of its prompt is no question.
    """
    context, _, question = document["input"].rstrip().rpartition("\n")
    if not context or not question.startswith(("What ", "Question: ")):
        raise ConfigError(
            f"The prompt of {task} ends with {question[-80:]!r}, which is no question", "pip install 'lm-eval==0.4.13'"
        )
    references = tuple(document["outputs"])
    return Sample(
        id=f"ruler/{task}/{length}/{document['index']}",
        suite="ruler",
        task=task,
        length=length,
        context=context,
        question=question,
        references=references,
        score=partial(match, modules.common, references),
        max_tokens=answer_tokens(modules, task),
        opening=document["gen_prefix"],
    )


def answer_tokens(modules: Modules, task: str) -> int:
    """Most tokens of an answer, as lm-eval has them."""
    configs = {"vt": modules.vt.CONFIG["variable_tracking"], "cwe": modules.cwe.CONFIG, "fwe": modules.fwe.CONFIG}
    return int(configs[task]["tokens_to_generate"]) if task in configs else NEEDLE_TOKENS


def match(common: Any, references: Sequence[str], text: str) -> float:
    """Share of the references that are in the answer: RULER's string_match_all."""
    return float(common.string_match_all(common.postprocess_pred([text]), [list(references)]))


@contextmanager
def seeded(seed: int, modules: Modules) -> Iterator[None]:
    """Seed what lm-eval draws from, which is global, and put it back afterwards."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    modules.cwe.RNG.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what lm-eval prints of its progress; errors come as exceptions."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
