"""LongBench (Bai et al., arXiv 2308.14508): the English and code datasets, from files that the user has downloaded.

The published files are read as they are; prompts and answer lengths are those that lm-eval ships. The task's
introduction and the context are one message, what follows the context in the prompt is the question. Unlike the
published script, which leaves the chat format out for few-shot and code tasks, every dataset is asked in a chat,
because a memory system keeps a conversation.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Template

from eval.suites.longbench_metrics import (
    Metric,
    classified,
    counted,
    edit_similarity,
    f1,
    retrieved,
    rouge_l,
)
from eval.suites.sample import REPLY, Sample
from memkv.errors import ConfigError, InvalidInput
from memkv.model import HybridModel
from memkv.turns import Message

WHERE = (
    "Download https://huggingface.co/datasets/THUDM/LongBench/resolve/main/data.zip, unpack it, and name the folder "
    "with the .jsonl files: --longbench DIR."
)

METRICS: dict[str, Metric] = {
    "narrativeqa": f1,
    "qasper": f1,
    "multifieldqa_en": f1,
    "hotpotqa": f1,
    "2wikimqa": f1,
    "musique": f1,
    "gov_report": rouge_l,
    "qmsum": rouge_l,
    "multi_news": rouge_l,
    "trec": classified,
    "triviaqa": f1,
    "samsum": rouge_l,
    "passage_count": counted,
    "passage_retrieval_en": retrieved,
    "lcc": edit_similarity,
    "repobench-p": edit_similarity,
}
CHINESE = ("multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh")
EVEN = "_e"  # at the end of the names of LongBench-E, the same datasets with lengths evenly spread

# Field -> the types that it may have. `length` and `language` are not needed.
FIELDS: dict[str, tuple[type, ...]] = {
    "_id": (str,),
    "input": (str,),
    "context": (str,),
    "answers": (list,),
    "all_classes": (list, type(None)),
}
CONTEXT = "{{context}}"
# Left free when a context is cut: the text on both sides of the cut may be encoded in other tokens.
SEAM = 16


@dataclass(frozen=True)
class Prompt:
    """How a dataset is asked.

    Attributes:
        before: the text in front of the context.
        after: template of the text behind it, with `question`.
        max_tokens: most tokens of the answer.
        first_line: the answer is its first line.
    """

    before: str
    after: str
    max_tokens: int
    first_line: bool


def samples(
    folder: str | Path, tasks: Sequence[str], count: int | None, model: HybridModel, limit: int | None = None
) -> list[Sample]:
    """The first `count` samples of each dataset, all without one; without names, of every English dataset there is.

    Contexts are cut in the middle, as in the paper, to what the model has positions for, and to `limit` tokens.

    Raises:
        ConfigError: no such folder, dataset or file (the message says where they come from), or lm-eval is missing.
        InvalidInput: a damaged line, named, or a model with too few positions for a question.
    """
    found = []
    for task in tasks or present(folder):
        path, prompt = locate(folder, task), load_prompt(dataset_of(task))
        for number, record in enumerate(read(path)):
            if number == count:
                break
            found.append(fit(to_sample(task, prompt, record), model, limit))
    return found


def dataset_of(task: str) -> str:
    """The dataset's name, without the ending of LongBench-E.

    Raises:
        ConfigError: there is none of that name, or it is Chinese.
    """
    name = task.removesuffix(EVEN)
    if name in METRICS:
        return name
    if name in CHINESE:
        raise ConfigError(f"{task} is Chinese; memkv has the metrics of the English ones", f"Use {', '.join(METRICS)}.")
    raise ConfigError(f"LongBench has no dataset {task!r}", f"Known: {', '.join(METRICS)}, and with _e at the end.")


def folder_of(folder: str | Path) -> Path:
    """Where the files lie: the archive has them in a folder `data`.

    Raises:
        ConfigError: there is no such folder, or no .jsonl file in it.
    """
    for place in (Path(folder), Path(folder) / "data"):
        if any(place.glob("*.jsonl")):
            return place
    what = "holds no .jsonl file" if Path(folder).is_dir() else "is not a folder"
    raise ConfigError(f"LongBench's files are not there: {folder} {what}", WHERE)


def present(folder: str | Path) -> list[str]:
    """The English datasets in the folder; LongBench-E is run when its names are given.

    Raises:
        ConfigError: see `folder_of`, or files of other names only.
    """
    place = folder_of(folder)
    names = [name for name in METRICS if (place / f"{name}.jsonl").is_file()]
    if not names:
        raise ConfigError(f"{place} holds no English dataset of LongBench", WHERE)
    return names


def locate(folder: str | Path, task: str) -> Path:
    """The file of a dataset.

    Raises:
        ConfigError: unknown dataset, or its file is not there.
    """
    dataset_of(task)
    path = folder_of(folder) / f"{task}.jsonl"
    if not path.is_file():
        raise ConfigError(f"{path} is not there", WHERE)
    return path


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """The records of a published file, each checked.

    Raises:
        InvalidInput: a line that is no such record; file, line and field are named.
    """
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield checked(line, f"{path}:{number}")


def checked(line: str, where: str) -> Mapping[str, Any]:
    """One line as a record.

    Raises:
        InvalidInput: see `read`.
    """

    def damaged(what: str) -> InvalidInput:
        return InvalidInput(f"{where} is damaged: {what}", "Unpack LongBench's data.zip again.")

    try:
        line.encode()  # fails on bytes that were no UTF-8
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()  # fails on half surrogate pairs, which no tokenizer reads
    except (UnicodeEncodeError, json.JSONDecodeError) as error:
        raise damaged(str(error)) from error
    if not isinstance(record, dict):
        raise damaged("no JSON object")
    for name, types in FIELDS.items():
        if name not in record:
            raise damaged(f"the field {name!r} is missing")
        if not isinstance(record[name], types):
            raise damaged(f"the field {name!r} is of type {type(record[name]).__name__}")
    for name in ("answers", "all_classes"):
        if any(not isinstance(text, str) for text in record[name] or ()):
            raise damaged(f"the field {name!r} holds something else than text")
    if not record["answers"]:
        raise damaged("it has no answer")
    return record


def load_prompt(dataset: str) -> Prompt:
    """The dataset's prompt, from the task file that lm-eval ships.

    Raises:
        ConfigError: lm-eval is not installed, or its file is not as expected.
    """
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("LongBench's prompts come with lm-eval, which is not installed", "pip install 'memkv[ruler]'")
    path = Path(spec.submodule_search_locations[0], "tasks", "longbench", f"{dataset}.yaml")
    try:
        task = yaml.load(path.read_text(encoding="utf-8"), Loader=TaskLoader)
        text, kwargs = task["doc_to_text"], task["generation_kwargs"]
        before, context, after = text.partition(CONTEXT)
        if not context:
            raise KeyError(CONTEXT)
        return Prompt(before, after, int(kwargs["max_gen_toks"]), kwargs["until"] == ["\n"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not the task file that memkv knows: {error!r}", "pip install 'lm-eval>=0.4.13'"
        ) from error


class TaskLoader(yaml.SafeLoader):
    """YAML with lm-eval's `!function` tags, whose functions are not wanted here."""


TaskLoader.add_constructor("!function", lambda loader, node: None)


def to_sample(task: str, prompt: Prompt, record: Mapping[str, Any]) -> Sample:
    """One record as a sample."""
    metric, answers = METRICS[dataset_of(task)], tuple(record["answers"])
    return Sample(
        id=f"longbench/{task}/{record['_id']}",
        suite="longbench",
        task=task,
        length=None,
        context=prompt.before + record["context"],
        # lm-eval's copy of the data calls `question` what the published files call `input`.
        question=Template(prompt.after).render(question=record["input"], input=record["input"]).strip("\n"),
        references=answers,
        score=partial(best, metric, answers, tuple(record["all_classes"] or ()), prompt.first_line),
        max_tokens=prompt.max_tokens,
        first_line=prompt.first_line,
    )


def best(metric: Metric, answers: Sequence[str], classes: Sequence[str], first_line: bool, text: str) -> float:
    """The metric against the reference that fits best, as published."""
    said = text.lstrip("\n").split("\n")[0] if first_line else text
    return max(metric(said, answer, classes) for answer in answers)


def fit(sample: Sample, model: HybridModel, limit: int | None) -> Sample:
    """`sample` with as much taken out of the middle of its context as is too much (section 4 of the paper).

    Raises:
        InvalidInput: not even the question fits.
    """
    most = min((count for count in (model.max_tokens, limit) if count is not None), default=None)
    if most is None:
        return sample
    chat = model.chat
    frame = [Message(role="user", content=""), Message(role="assistant", content=REPLY)]
    asked = chat.render([*frame, Message(role="user", content=sample.question)], open_reply=True)
    room = most - len(chat.encode(asked)) - sample.max_tokens - SEAM
    if room < 2:
        raise InvalidInput(
            f"{sample.id}: question and answer alone are more than {most} tokens",
            "Use a model with more positions, or a larger --limit.",
        )
    tokens = chat.encode(sample.context)
    if len(tokens) <= room:
        return sample
    half = room // 2
    context = chat.decode(tokens[:half]) + chat.decode(tokens[-half:])
    return dataclasses.replace(sample, context=context, cut_tokens=len(tokens) - 2 * half)
