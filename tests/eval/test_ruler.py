from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import tiny_chat

from eval.suites import ruler
from eval.suites.ruler import NEEDLES, OFFLINE, Source, ensure_room, hide, match, needles_of, samples
from eval.suites.run import contender, run
from memkv.errors import ConfigError, InvalidInput
from memkv.model import HybridModel

ESSAY = "Dr. Lee came home at 5 p.m. and slept. Nobody asked why. She had walked for hours, and it rained. " * 60


@pytest.fixture(scope="module")
def llama() -> HybridModel:
    return tiny_chat("llama")


@pytest.fixture(scope="module")
def embedded() -> HybridModel:
    return HybridModel.from_pretrained()


@pytest.fixture
def modules() -> Iterator[ruler.Modules]:
    nltk, *_ = (pytest.importorskip(name) for name in ("nltk", "wonderwords", "lm_eval"))
    before = list(nltk.data.path)
    yield ruler.load_modules(Source())
    nltk.data.path[:] = before


@pytest.fixture
def source(modules: ruler.Modules, tmp_path: Path) -> Source:
    """Essays, and NLTK data as they lie on a disk, both made here."""
    from nltk.tokenize.punkt import PunktTrainer, save_punkt_params

    (tmp_path / "essays").mkdir()
    (tmp_path / "essays" / "one.txt").write_text(ESSAY)
    folder = tmp_path / "nltk_data" / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    modules.prepare.nltk.data.path.append(str(tmp_path / "nltk_data"))  # NLTK writes nowhere else
    save_punkt_params(PunktTrainer(ESSAY).get_params(), dir=str(folder))
    modules.prepare.nltk.data.path.pop()
    return Source(tmp_path / "essays", tmp_path / "nltk_data")


@pytest.mark.parametrize("task", ["niah", "vt@repeat", "niah_single_1@nope", "niah_single_1@", ""])
def test_an_unknown_task_is_refused(llama: HybridModel, task: str) -> None:
    with pytest.raises(ConfigError, match=r"no task|no haystack|@repeat"):
        samples([task], [1024], 1, llama)


def test_a_haystack_without_a_download_is_chosen_by_name() -> None:
    chosen = needles_of("niah_multivalue@repeat")
    assert chosen is not None and (chosen.haystack, chosen.n_values) == ("repeat", 4)
    assert [task for task in OFFLINE if (needles_of(task) or chosen).haystack == "essay"] == []


def test_too_short_a_length_is_refused(llama: HybridModel) -> None:
    with pytest.raises(InvalidInput, match="1024 or more"):
        samples(["vt"], [512], 1, llama)


def test_without_lm_eval_it_is_said_what_to_install(llama: HybridModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(ruler, "import_module", missing)
    with pytest.raises(ConfigError, match=r"lm-eval.*pip install 'memkv\[ruler\]'"):
        samples(["vt"], [1024], 1, llama)


@pytest.mark.parametrize("task", NEEDLES)
def test_needles_are_those_of_lm_evals_task(modules: ruler.Modules, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = []

    def recorded(haystack: Any, **kwargs: Any) -> list[dict[str, Any]]:
        asked.append((haystack, kwargs))
        return [{"index": 0}]

    for module in (modules.niah, modules.prepare):
        monkeypatch.setattr(module, "generate_samples", recorded)
        monkeypatch.setattr(module, "get_haystack", lambda type_haystack: f"hay of {type_haystack}")
    monkeypatch.setattr(modules.niah, "get_tokenizer", lambda name: "tokenizer")
    getattr(modules.niah, task)(max_seq_lengths=[2048], tokenizer="any")
    needles = NEEDLES[task]
    hide(modules, "tokenizer", 2048, 500, needles, f"hay of {needles.haystack}")
    (hay, theirs), (our_hay, ours) = asked
    defaults = {"num_needle_k": 1, "num_needle_v": 1, "num_needle_q": 1}
    assert our_hay == hay
    assert ours == defaults | theirs


def test_needles_in_sentences_end_with_the_question(modules: ruler.Modules, llama: HybridModel) -> None:
    made = samples(["niah_single_1", "niah_multiquery@repeat"], [2048, 3000], 3, llama)
    assert len(made) == 12 and len({one.id for one in made}) == 12
    for one in made:
        assert one.question.startswith("What ") and "\n" not in one.question
        assert all(reference in one.context and reference not in one.question for reference in one.references)
        assert one.opening.startswith("The special magic number")
        assert one.score(" and ".join(one.references)) == 1.0
    assert {len(one.references) for one in made} == {1, 4}


def test_samples_depend_on_the_seed_alone(modules: ruler.Modules, llama: HybridModel) -> None:
    def texts(tasks: list[str], seed: int) -> list[str]:
        made = samples(tasks, [2048], 2, llama, seed)
        return [one.context + one.question for one in made if one.task == "niah_multikey_2"]

    alone = texts(["niah_multikey_2"], 0)
    assert alone == texts(["niah_single_1", "niah_multikey_2"], 0)
    assert alone != texts(["niah_multikey_2"], 1)


@pytest.mark.parametrize("task", ["vt", "cwe", "fwe"])
def test_a_tokenizer_that_takes_too_much_room_ends_in_an_error_and_not_in_a_loop(
    modules: ruler.Modules, llama: HybridModel, task: str
) -> None:
    smallest = "x" * 1100
    with pytest.raises(InvalidInput, match=f"smallest sample of {task}"):
        ensure_room(task, llama.chat.tokenizer, smallest, 10, 1024)
    if task == "vt":  # one token a character: the solved example alone is longer than its 500 tokens
        with pytest.raises(InvalidInput, match="smallest sample of vt"):
            samples([task], [4096], 1, llama)


def test_essays_without_their_downloads_are_refused_with_a_way_out(
    modules: ruler.Modules, llama: HybridModel, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules.prepare.nltk.data, "path", [])
    with pytest.raises(ConfigError, match=r"punkt_tab.*--nltk-data.*niah_single_1, "):
        samples(["niah_multivalue"], [2048], 1, llama, source=Source(source.essays))

    def unreachable(*names: Any, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(modules.prepare.datasets, "load_dataset", unreachable)
    with pytest.raises(ConfigError, match=r"paul_graham_essays.*--essays"):
        samples(["niah_multivalue"], [2048], 1, llama, source=Source(None, source.nltk_data))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no text in"):
        samples(["niah_multivalue"], [2048], 1, llama, source=Source(tmp_path / "empty", source.nltk_data))


def test_essays_of_the_users_own_hide_needles(modules: ruler.Modules, llama: HybridModel, source: Source) -> None:
    (one,) = samples(["niah_multivalue"], [3800], 1, llama, source=source)
    assert len(one.references) == 4 and all(reference in one.context for reference in one.references)
    assert "Nobody asked why." in one.context


def test_scores_are_shares_of_the_references(modules: ruler.Modules) -> None:
    assert match(modules.common, ["ABC", "DEF"], " abc, then DEF.") == 1.0
    assert match(modules.common, ["ABC", "DEF"], "abc") == 0.5
    assert match(modules.common, ["ABC", "DEF"], "") == 0.0


@pytest.mark.slow
@pytest.mark.keeps_home
@pytest.mark.parametrize("length", [1024, 2048, 8192])
def test_every_task_without_a_download_fits_its_length(
    modules: ruler.Modules, embedded: HybridModel, length: int
) -> None:
    made = samples(OFFLINE, [length], 2, embedded)
    assert [one.task for one in made] == [task for task in OFFLINE for _ in range(2)]
    for one in made:
        tokens = len(embedded.chat.encode(f"{one.context}\n{one.question}"))
        assert length / 3 < tokens <= length
        assert one.references and one.opening and one.max_tokens in (30, 50, 120, 128)
        assert one.score(one.opening) == 0.0


@pytest.mark.slow
@pytest.mark.keeps_home
def test_the_embedded_model_finds_the_needle_only_where_it_was_kept(
    modules: ruler.Modules, embedded: HybridModel
) -> None:
    rows = list(run(embedded, samples(["niah_single_1"], [1024], 2, embedded), [contender("full"), contender("none")]))
    assert [row.failure for row in rows] == [None] * 4
    assert [row.score for row in rows if row.system == "none"] == [0.0, 0.0]
    assert sum(row.score or 0.0 for row in rows if row.system == "full") >= 1.0
