from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import tiny_chat

from eval.suites import longbench
from eval.suites.longbench import CHINESE, METRICS, Prompt, fit, load_prompt, locate, present, read, samples, to_sample
from eval.suites.longbench_metrics import classified, counted, edit_similarity, f1, retrieved, rouge_l
from eval.suites.run import contender, run
from memkv.errors import ConfigError, InvalidInput
from memkv.model import HybridModel

PROMPT = Prompt("Read this.\n\n", "\n\nQuestion: {{question}}\nAnswer:", 8, False)


@pytest.fixture(scope="module")
def llama() -> HybridModel:
    return tiny_chat("llama")


def record(**changes: Any) -> dict[str, Any]:
    return {
        "input": "Who wrote the letter?",
        "context": "Ada wrote the letter in March.",
        "answers": ["Ada", "Ada Lovelace"],
        "length": 6,
        "dataset": "hotpotqa",
        "language": "en",
        "all_classes": None,
        "_id": "0a1b",
    } | changes


def write(folder: Path, *records: dict[str, Any], task: str = "hotpotqa") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task}.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records), encoding="utf-8")
    return path


@pytest.mark.parametrize("inside", ["", "data"])
def test_published_files_are_found_in_the_folder_or_in_data(tmp_path: Path, inside: str) -> None:
    path = write(tmp_path / inside, record(), record(_id="2c"))
    write(tmp_path / inside, record(), task="dureader")
    assert present(tmp_path) == ["hotpotqa"]
    assert locate(tmp_path, "hotpotqa") == path
    assert [one["_id"] for one in read(path)] == ["0a1b", "2c"]


def test_a_record_becomes_a_context_a_question_and_a_score() -> None:
    made = to_sample("hotpotqa_e", PROMPT, record(input="Who? {{context}}"))
    assert made.context == "Read this.\n\nAda wrote the letter in March."
    assert made.question == "Question: Who? {{context}}\nAnswer:"
    assert (made.id, made.task, made.max_tokens) == ("longbench/hotpotqa_e/0a1b", "hotpotqa_e", 8)
    assert made.score("Ada Lovelace.") == 1.0  # the best of the references counts
    assert made.score("Charles") == 0.0


def test_only_the_first_line_counts_where_the_paper_says_so() -> None:
    prompt = Prompt("", "\n{{question}}", 8, True)
    made = to_sample("trec", prompt, record(answers=["City"], all_classes=["City", "State"]))
    assert made.first_line
    assert made.score("\nCity\nState") == 1.0
    assert made.score("City, State") == 0.5


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_without_the_files_it_is_said_where_they_come_from(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"huggingface\.co/datasets/THUDM/LongBench.*data\.zip.*--longbench"):
        present(tmp_path / folder)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, record())
    with pytest.raises(ConfigError, match=r"qasper\.jsonl is not there"):
        locate(tmp_path, "qasper")


def test_chinese_files_alone_are_no_english_suite(tmp_path: Path) -> None:
    write(tmp_path, record(), task="dureader")
    with pytest.raises(ConfigError, match="no English dataset"):
        present(tmp_path)


@pytest.mark.parametrize(("task", "said"), [("hotpot", "no dataset 'hotpot'"), ("vcsum", "vcsum is Chinese")])
def test_an_unknown_dataset_is_refused(tmp_path: Path, llama: HybridModel, task: str, said: str) -> None:
    write(tmp_path, record())
    with pytest.raises(ConfigError, match=f"{said}.*narrativeqa"):
        samples(tmp_path, [task], 1, llama)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"input": "a", "cont', "Invalid control character"),
        ("[1, 2]", "no JSON object"),
        (json.dumps({k: v for k, v in record().items() if k != "answers"}), "'answers' is missing"),
        (json.dumps(record(context=7)), "'context' is of type int"),
        (json.dumps(record(answers=[])), "no answer"),
        (json.dumps(record(answers=[3])), "'answers' holds something else than text"),
        (json.dumps(record(all_classes=[None])), "'all_classes' holds something else"),
        (json.dumps(record(context="half \ud800")), "surrogates not allowed"),
        (json.dumps(record()).encode().replace(b"Ada", b"\xff"), "surrogates not allowed"),
    ],
)
def test_a_damaged_line_is_named_with_file_and_number(tmp_path: Path, line: str | bytes, said: str) -> None:
    path = write(tmp_path, record())
    path.write_bytes(path.read_bytes() + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(InvalidInput, match=rf"hotpotqa\.jsonl:2 is damaged: .*{said}.*data\.zip"):
        list(read(path))


def test_without_lm_eval_the_prompts_are_missing_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longbench, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"lm-eval.*pip install"):
        load_prompt("hotpotqa")


def test_a_long_context_loses_its_middle_and_is_answered(llama: HybridModel) -> None:
    whole = to_sample("hotpotqa", PROMPT, record(context="first " + "x" * 9000 + " last"))
    short = fit(whole, llama, None)
    assert short.context.startswith("Read this.\n\nfirst x") and short.context.endswith("x last")
    assert short.cut_tokens + len(short.context) == len(whole.context)
    (row,) = run(llama, [short], [contender("full")])
    assert row.failure is None and row.cut_tokens == short.cut_tokens
    assert 3900 < row.context_tokens + 8 < 4096


def test_the_users_limit_counts_where_it_is_smaller(llama: HybridModel) -> None:
    whole = to_sample("hotpotqa", PROMPT, record(context="x" * 2000))
    assert fit(whole, llama, None) is whole
    (row,) = run(llama, [fit(whole, llama, 1000)], [contender("full")])
    assert 900 < row.context_tokens < 1000
    with pytest.raises(InvalidInput, match="longbench/hotpotqa/0a1b.*50 tokens"):
        fit(whole, llama, 50)


def test_f1_is_over_words_without_articles_and_punctuation() -> None:
    assert f1("The letter, by Ada!", "a letter by ADA") == 1.0
    assert f1("Ada and Charles", "Ada") == pytest.approx(0.5)
    assert f1("", "Ada") == f1("Charles", "Ada") == 0.0


def test_rouge_l_takes_the_longest_common_subsequence() -> None:
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(0.75, abs=1e-6)
    assert rouge_l("the gunman kill police", "police kill the gunman") == pytest.approx(0.5, abs=1e-6)
    assert rouge_l("", "x") == rouge_l("...", "x") == 0.0


def test_hedging_is_shared_out() -> None:
    assert classified("City", "City", ["City", "State"]) == 1.0
    assert classified("City or State", "City", ["City", "State"]) == 0.5
    assert classified("City state", "City state", ["City", "City state"]) == 1.0
    assert classified("Town", "City", ["City", "State"]) == 0.0
    assert counted("7 or 8", "7", ()) == 0.5 and counted("none", "7") == 0.0
    assert retrieved("Paragraph 12", "Paragraph 12") == 1.0 and retrieved("Paragraph 1, 12", "Paragraph 12") == 0.5


def test_code_is_the_first_line_that_is_no_comment() -> None:
    assert edit_similarity("\n# the sum\n    return a + b\nx = 1", "    return a + b") == 1.0
    assert edit_similarity("return a", "return b") == 0.88
    assert edit_similarity("# only words", "return b") == 0.0


def test_metrics_agree_with_lm_eval_and_the_packages_it_calls() -> None:
    theirs = pytest.importorskip("lm_eval.tasks.longbench.metrics", exc_type=ImportError)
    draw = random.Random(0)
    words = ["the", "a", "cat", "cat.", "dog", "sat.", "On", "7", "12", "Paragraph", "mat", ".", " ", "\n"]
    classes = ["cat", "dog", "cat dog", "sat", "mat"]
    for _ in range(300):
        said, wanted = (" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(2))
        assert f1(said, wanted) == pytest.approx(theirs.qa_f1_score(said, wanted))
        assert rouge_l(said, wanted) == pytest.approx(theirs.rouge_score(said, wanted))
        assert (
            edit_similarity(said.replace("\n", ""), wanted) == theirs.fuzz.ratio(said.replace("\n", ""), wanted) / 100
        )
        assert counted(said, "7") == theirs.count_score(said, "7")
        assert retrieved(said, "Paragraph 12") == theirs.retrieval_score(said, "Paragraph 12")
        named = draw.choice(classes)
        assert classified(said, named, classes) == theirs.classification_score(said, named, all_classes=classes)


def test_every_english_dataset_has_a_prompt_and_a_metric(tmp_path: Path, llama: HybridModel) -> None:
    pytest.importorskip("lm_eval")
    assert len(METRICS) == 16 and not set(METRICS) & set(CHINESE)
    for task in METRICS:
        write(tmp_path, record(answers=["Paragraph 3"], all_classes=["x"], input="  a question"), task=task)
    found = samples(tmp_path, [], None, llama)
    assert [one.task for one in found] == list(METRICS)
    for one in found:
        assert "{{" not in one.context + one.question
        assert one.context.endswith("Ada wrote the letter in March.") and one.question
        assert 32 <= one.max_tokens <= 512
        assert round(one.score("Paragraph 3"), 6) in (0.0, 1.0)
    no_question = {"gov_report", "multi_news", "passage_count", "lcc"}
    assert {one.task for one in found if "a question" not in one.question} == no_question
    assert {one.task for one in found if one.first_line} == {"trec", "triviaqa", "samsum"}
    code = next(one for one in found if one.task == "repobench-p")
    assert code.question.startswith("  a question")  # indentation is part of code
    rows = list(run(llama, [one for one in found if one.max_tokens <= 32], [contender("full"), contender("none")]))
    assert rows and all(row.failure is None for row in rows)
