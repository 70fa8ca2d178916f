from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from run_parts import TRIGGER, save_tiny_model, tiny_scenario, write_tiny_run

from eval.generate import Config as Generate
from eval.run import Options, default_name, execute, main, worker_count
from eval.running.cell import Runner
from eval.running.plan import (
    Cell,
    Config,
    SystemPlan,
    Task,
    cells,
    check_config,
    load_config,
    load_scenarios,
    tasks,
    with_own,
)
from eval.running.progress import Meter, duration
from eval.running.provenance import differences
from eval.running.row_file import read_rows, read_times
from eval.running.run_folder import open_folder
from eval.running.screen import neutral_exchanges
from eval.scenarios import read_scenarios
from memkv.errors import ConfigError, StoreBusy

ROOT = Path(__file__).parents[2]
SYSTEMS = "- {name: none}\n- {name: full}\n- {name: recency, budgets: [0.5]}\n"


def config_file(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def tiny_config(model_folder: Path, *systems: SystemPlan) -> Config:
    return Config(systems, str(model_folder), "float32")


def run_here(config: Config, number: int = 1) -> dict[str, object]:
    """Rows of one scenario by system, run in this process."""
    scenario = tiny_scenario(number)
    task = Task(scenario, tuple(cells(config, scenario.id)))
    return {finished.row.system: finished for finished in Runner(config).run(task)}


# -- the plan


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("systems: []", "names no system"),
        ("systems: none", "no list"),
        ("systems: [none]", "no list"),
        ("systems: [{name: none}]\nsystem: 3", "unknown key 'system'"),
        ("systems: [{name: none, budget: 0.5}]", "unknown key 'budget'"),
        ("systems: [{name: nothing}]", "no system 'nothing'"),
        ("systems: [{name: none}, {name: none}]", "twice"),
        ("systems: [{name: none, budgets: [0.5]}]", "no budget holds it"),
        ("systems: [{name: recency, budgets: [1.5]}]", "shares above 0"),
        ("systems: [{name: recency, budgets: ['half']}]", "shares above 0"),
        ("systems: [{name: recency, budgets: []}]", "shares above 0"),
        ("systems: [{name: recency, budgets: 0.5}]", "shares above 0"),
        ("systems: [{name: recency, budgets: [0.5, 0.5]}]", "a budget twice"),
        ("systems: [{name: recency, budgets: [0.5], seeds: 3}]", "each seed gives the same row"),
        ("systems: [{name: none}]\nscenarios: 0", "scenarios is 0"),
        ("systems: [{name: none}]\nscenarios: many", "no int"),
        ("systems: [{name: none}]\ndtype: int3", "dtype is 'int3'"),
        ("systems: [{name: none}]\nsplit: own", "split is 'own'"),
        ("systems: [{name: none}]\ngenerate: {token: 3}", "unknown key 'token'"),
        ("systems: [{name: none}]\ngenerate: {domains: [cooking]}", "generate.domains"),
        ("systems: [{name: none}]\ngenerate: {domains: coding}", "generate.domains"),
        ("systems: [{name: 'compact:no_such_module:f', budgets: [0.5]}]", "no_such_module"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused_by_name(tmp_path: Path, text: str, says: str):
    with pytest.raises(ConfigError, match=says):
        check_config(load_config(config_file(tmp_path, text)))


@pytest.mark.parametrize("name", ["quick", "full", "large"])
def test_the_published_configurations_can_be_run(name: str):
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    check_config(config)
    assert {"none", "full", "summary"} <= {plan.name for plan in config.systems}


def test_cells_have_a_fixed_order_and_readable_ids():
    config = Config((SystemPlan("full"), SystemPlan("summary", (0.125, 0.33), 2)))
    assert [cell.id for cell in cells(config, "s")] == [
        "s/screen/-/0",
        "s/screen/-/1",
        "s/full/-/0",
        "s/summary/0.125/0",
        "s/summary/0.125/1",
        "s/summary/0.33/0",
        "s/summary/0.33/1",
    ]


def test_what_is_there_is_not_planned_again():
    config = Config((SystemPlan("none"),))
    scenarios = [tiny_scenario(0), tiny_scenario(1)]
    done = frozenset(cell.id for cell in cells(config, "own-00")) | {"own-01/none/-/0"}
    left = tasks(config, scenarios, done)
    assert [[cell.id for cell in task.cells] for task in left] == [["own-01/screen/-/0", "own-01/screen/-/1"]]


def test_your_function_and_server_join_at_the_configured_budgets():
    config = with_own(Config((SystemPlan("none"), SystemPlan("recency", (0.5, 0.1)))), "m:f", "gpt")
    assert config.systems[2:] == (SystemPlan("compact:m:f", (0.1, 0.5)), SystemPlan("endpoint:gpt"))
    with pytest.raises(ConfigError, match="--compact needs budgets"):
        with_own(Config((SystemPlan("none"),)), "m:f", None)


def test_limit_takes_the_first_scenarios_of_a_file(tmp_path: Path):
    config, file = write_tiny_run(tmp_path, 3, SYSTEMS)
    assert [s.id for s in load_scenarios(load_config(config), file, 2)] == ["own-00", "own-01"]
    with pytest.raises(ConfigError, match="--limit"):
        load_scenarios(load_config(config), file, 0)


def test_generated_scenarios_are_the_same_each_time():
    config = Config((SystemPlan("none"),), scenarios=2, split="dev", generate=Generate(tokens=600))
    first, second = (load_scenarios(config, None, None) for _ in range(2))
    assert len(first) == 2 and first == second


def test_folders_are_named_after_what_changes_rows():
    options = Options(Path("configs/quick.yaml"), scenarios=Path("my rules.jsonl"), compact="a.b:c", limit=3)
    assert default_name(options) == "quick-my.rules-limit-3-a.b.c"
    assert default_name(Options(Path("configs/quick.yaml"))) == "quick"


def test_an_accelerator_is_not_shared_unasked():
    options, config = Options(Path("x")), Config((SystemPlan("none"),), device="cuda")
    assert worker_count(options, config) == 1
    assert worker_count(dataclasses.replace(options, workers=3), config) == 3


# -- one cell


def test_every_system_answers_every_probe(model_folder: Path):
    done = run_here(tiny_config(model_folder, SystemPlan("none"), SystemPlan("full"), SystemPlan("recency", (0.5,))))
    for finished in done.values():
        assert finished.row.failure is None, finished.row.failure
        assert [answer.probe for answer in finished.row.answers] == ["p0", "p1", "p2", "p3"]
        assert finished.times.id == finished.row.id and finished.times.answer > 0
    assert done["full"].row.said == {"r0": "right", "r1": "absent"}
    assert done["recency"].row.said == {"r0": "absent", "r1": "absent"}
    assert done["screen"].row.said is None
    assert done["full"].row.active_bytes == done["full"].row.full_bytes
    assert done["recency"].row.active_bytes <= done["recency"].row.budget_bytes == done["full"].row.full_bytes // 2
    assert done["full"].row.unshared > done["full"].row.prefilled


def test_a_system_that_cannot_be_so_small_is_told_apart(model_folder: Path):
    row = run_here(tiny_config(model_folder, SystemPlan("recency", (0.001,))))["recency"].row
    assert row.failure.error == "DoesNotFit" and "bytes" in row.failure.next_step
    assert row.answers == () and row.budget_bytes > 0


def test_a_system_that_keeps_more_than_its_budget_fails(model_folder: Path):
    done = run_here(tiny_config(model_folder, SystemPlan("compact:run_parts:keep_all", (0.5,)), SystemPlan("none")))
    failed = done["compact:run_parts:keep_all"].row
    assert failed.failure.error == "BudgetExceeded" and "budget" in failed.failure.message
    assert failed.answers == () and done["none"].row.answers


def test_a_crash_in_your_function_is_one_failed_row_with_its_traceback(model_folder: Path):
    done = run_here(tiny_config(model_folder, SystemPlan("compact:run_parts:crash", (0.5,)), SystemPlan("none")))
    failed = done["compact:run_parts:crash"]
    assert failed.row.failure.error == "InvalidInput" and "an average of nothing" in failed.row.failure.message
    assert "ZeroDivisionError" in failed.trace and "run_parts.py" in failed.trace
    assert done["none"].row.failure is None


def test_an_error_that_nobody_expected_is_one_failed_row_too(model_folder: Path, monkeypatch: pytest.MonkeyPatch):
    def gone(self: object, case: object, limits: object) -> None:
        raise FileNotFoundError("gone")

    monkeypatch.setattr("eval.systems.none.NoMemory.remember", gone)
    done = run_here(tiny_config(model_folder, SystemPlan("none"), SystemPlan("full")))
    assert done["none"].row.failure.error == "FileNotFoundError" and "run.log" in done["none"].row.failure.next_step
    assert "gone" in done["none"].trace
    assert done["full"].row.answers


def test_likelihoods_that_are_no_numbers_are_named(model_folder: Path):
    config = tiny_config(model_folder, SystemPlan("full"))
    runner, scenario = Runner(config), tiny_scenario(1)
    task = Task(scenario, (Cell(scenario.id, "full", None, 0),))
    good = next(runner.run(task)).row
    with torch.no_grad():
        runner.model.hf.get_input_embeddings().weight.fill_(float("nan"))
    bad = next(runner.run(task)).row
    assert good.failure is None
    assert bad.failure.error == "InvalidInput" and bad.id == good.id and bad.answers == ()


def test_contexts_of_the_screen_hold_no_rule():
    exchanges = neutral_exchanges(tiny_scenario(1))
    assert [[turn.text for turn in exchange] for exchange in exchanges] == [["Tell me of town 1.", "It has a tower."]]
    again = tiny_scenario(1)
    said_twice = dataclasses.replace(
        again, rules=(dataclasses.replace(again.rules[0], planted_at=(1, 0)), again.rules[1])
    )
    assert neutral_exchanges(said_twice) == []


# -- the folder


def test_a_folder_holds_one_run(tmp_path: Path):
    config, scenarios = Config((SystemPlan("none"),)), [tiny_scenario(0)]
    with open_folder(tmp_path / "run", config, scenarios, 1):
        pass
    with open_folder(tmp_path / "run", config, scenarios, 2) as folder:
        assert len(folder.run["parts"]) == 2
        assert {"command", "commit", "versions", "machine", "started", "workers"} <= set(folder.run["parts"][0])
    assert list(read_scenarios(tmp_path / "run" / "scenarios.jsonl")) == scenarios
    other = dataclasses.replace(config, seed=7, systems=(SystemPlan("none"), SystemPlan("full")))
    with pytest.raises(ConfigError, match=r"seed: 0 before, 7 now.*--out"):
        with open_folder(tmp_path / "run", other, scenarios, 1):
            pass
    with pytest.raises(ConfigError, match="scenarios.count: 1 before, 2 now"):
        with open_folder(tmp_path / "run", config, [*scenarios, tiny_scenario(1)], 1):
            pass


def test_a_run_may_gain_systems_and_budgets_and_lose_none(tmp_path: Path):
    scenarios = [tiny_scenario(0)]
    few = Config((SystemPlan("none"), SystemPlan("recency", (0.25,))))
    more = Config((SystemPlan("none"), SystemPlan("full"), SystemPlan("recency", (0.25, 0.5))))
    for config in (few, more):
        with open_folder(tmp_path, config, scenarios, 1) as folder:
            assert {name: each["budgets"] for name, each in folder.run["config"]["systems"].items()} == {
                system.name: None if system.budgets is None else list(system.budgets) for system in config.systems
            }
    for fewer in (few, Config((SystemPlan("none", (0.5,)), SystemPlan("full"), SystemPlan("recency", (0.25, 0.5))))):
        with pytest.raises(ConfigError, match=r"systems\..* before, .* now"):
            with open_folder(tmp_path, fewer, scenarios, 1):
                pass


def test_a_sitting_that_ran_nothing_is_not_noted(tmp_path: Path):
    config, scenarios = Config((SystemPlan("none"),)), [tiny_scenario(0)]
    for _ in range(2):
        with open_folder(tmp_path, config, scenarios, 1) as folder:
            folder.new = 0 if folder.run["parts"][:-1] else 3
            folder.finish(60.0, frozenset())
    assert [part["rows"] for part in json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["parts"]] == [3]


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path):
    config, scenarios = Config((SystemPlan("none"),)), [tiny_scenario(0)]
    with open_folder(tmp_path, config, scenarios, 1), pytest.raises(StoreBusy, match="Another run"):
        with open_folder(tmp_path, config, scenarios, 1):
            pass


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"config": 1, "parts": [], "scenarios": {}}'])
def test_a_damaged_description_is_named(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.json"), open_folder(tmp_path, Config(()), [tiny_scenario(0)], 1):
        pass


def test_rows_of_unknown_origin_are_not_added_to(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="no run.json"), open_folder(tmp_path, Config(()), [tiny_scenario(0)], 1):
        pass


def test_rows_of_two_models_do_not_mix(tmp_path: Path):
    with open_folder(tmp_path, Config(()), [tiny_scenario(0)], 1) as folder:
        folder.know_model({"weights": "a"})
    with open_folder(tmp_path, Config(()), [tiny_scenario(0)], 1) as folder:
        folder.know_model({"weights": "a"})
        with pytest.raises(ConfigError, match="another model"):
            folder.know_model({"weights": "b"})


def test_differences_name_the_place():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 2}, "c": 2, "d": 3}) == [
        "a.b: 1 before, 2 now",
        "d: None before, 3 now",
    ]


# -- progress


def test_one_line_a_minute_where_there_is_no_terminal():
    now = [0.0]
    text = io.StringIO()
    with Meter(10, 2, 5, Console(file=text, force_terminal=False), clock=lambda: now[0]) as meter:
        now[0] = 20.0
        meter.ready()
        for _ in range(5):
            now[0] += 30.0
            meter.row()
        meter.scenario()
    lines = text.getvalue().splitlines()
    assert lines[0] == "7 of 15 rows, 2 rows a minute, 4 min left"
    assert lines[-1] == "First of 2 scenarios done: about 2 min to go"
    assert len(lines) == 3


def test_durations_in_words():
    assert [duration(s) for s in (40, 420, 7500)] == ["40 s", "7 min", "2 h 05 min"]


# -- whole runs, in processes


def quiet() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def files(folder: Path) -> tuple[bytes, list[str]]:
    """The bytes of the rows, and the ids of the times: the times themselves are never the same twice."""
    return (folder / "rows.jsonl").read_bytes(), [times.id for times in read_times(folder / "times.jsonl")]


@pytest.mark.slow
def test_rows_do_not_depend_on_workers_or_sittings(tmp_path: Path):
    config, file = write_tiny_run(tmp_path, 3, SYSTEMS)
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert execute(Options(config, once, workers=2, scenarios=file), quiet()) == (once, 0)
    whole, ids = files(once)
    assert ids == sorted(ids) and len(ids) == 15
    assert execute(Options(config, once, workers=2, scenarios=file), quiet()) == (once, 0)
    assert files(once) == (whole, ids)
    # As after kill -9 in the middle of a line: five rows, half of a sixth, and one more line of times than rows.
    twice.mkdir()
    for name in ("run.json", "scenarios.jsonl"):
        (twice / name).write_bytes((once / name).read_bytes())
    lines = whole.splitlines(keepends=True)
    (twice / "rows.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:50])
    (twice / "times.jsonl").write_bytes(b"".join((once / "times.jsonl").read_bytes().splitlines(keepends=True)[:6]))
    assert execute(Options(config, twice, workers=1, scenarios=file), quiet()) == (twice, 0)
    assert files(twice) == (whole, ids)
    run = json.loads((twice / "run.json").read_text(encoding="utf-8"))
    assert run["totals"]["complete"] and run["totals"]["rows"] == 15 and run["totals"]["sharing_ratio"] > 1
    assert run["parts"][-1]["rows"] == 10 and run["model"]["dtype"] == "float32"


@pytest.mark.slow
def test_the_command_ends_with_the_table_and_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config, file = write_tiny_run(tmp_path, 2, SYSTEMS)
    command = ["--config", str(config), "--scenarios", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]
    for extra, status in ((["--dry-run"], 0), ([], 0)):
        with pytest.raises(SystemExit) as ended:
            main([*command, *extra])
        assert ended.value.code == status
        said = capsys.readouterr().out
        if extra:
            assert "10 rows" in said and "recency: budgets 0.5" in said and not (tmp_path / "out").exists()
    assert "10 rows in" in said and "Tokens read:" in said
    assert "surviving" in said and "recency" in said
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in said and (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_a_killed_worker_costs_its_scenario_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trigger = tmp_path / "trigger"
    monkeypatch.setenv(TRIGGER, str(trigger))
    config, file = write_tiny_run(
        tmp_path, 4, "- {name: none}\n- {name: 'compact:run_parts:die', budgets: [0.9]}\n- {name: full}\n"
    )
    options = Options(config, tmp_path / "out", workers=1, scenarios=file)
    trigger.touch()
    assert execute(options, quiet())[1] == 1
    rows = read_rows(tmp_path / "out" / "rows.jsonl")
    broken = {row.id: row.failure for row in rows if row.failure}
    assert list(broken) == ["own-01/compact:run_parts:die/0.9/0", "own-01/full/-/0"]
    assert {(f.error, "SIGKILL" in f.message, "--retry-failed" in f.next_step) for f in broken.values()} == {
        ("WorkerDied", True, True)
    }
    assert len(rows) == 20
    trigger.unlink()
    assert execute(options, quiet())[1] == 1  # what failed stays so until it is asked for
    assert execute(dataclasses.replace(options, retry_failed=True), quiet())[1] == 0
    clean = dataclasses.replace(options, out=tmp_path / "clean", workers=2)
    assert execute(clean, quiet())[1] == 0
    assert files(tmp_path / "out") == files(tmp_path / "clean")


def wait_for_rows(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until that many rows are on the disk."""
    path = folder / "rows.jsonl"
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, "it ended before it was to be stopped"
        assert time.monotonic() < deadline, "no rows for two minutes"
        time.sleep(0.02)


@pytest.mark.slow
def test_kill_and_interrupt_lose_no_row_and_change_none(tmp_path: Path):
    config, file = write_tiny_run(
        tmp_path, 4, "- {name: none}\n- {name: 'compact:run_parts:slowly', budgets: [0.9]}\n- {name: full}\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "eval.run", "--config", str(config), "--out", str(out), "--workers", "2"]
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tests" / "eval")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        # A shell that runs the tests in the background has them, and all that they start, ignore SIGINT.
        listening = (
            "import signal, sys, os; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
        )
        full = [sys.executable, "-c", listening, *command, "--scenarios", str(file)]
        return subprocess.Popen(full, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True)

    killed = start()
    wait_for_rows(out, 3, killed)
    killed.kill()
    killed.communicate()
    kept = {row.id for row in read_rows(out / "rows.jsonl")}
    stopped = start()
    wait_for_rows(out, len(kept) + 2, stopped)
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    said = stopped.communicate(timeout=60)[1].decode()
    assert stopped.returncode == 130
    assert "the same command goes on" in said and "Traceback" not in said
    more = {row.id for row in read_rows(out / "rows.jsonl")}
    assert kept < more and len(more) < 20
    assert execute(Options(config, out, workers=1, scenarios=file), quiet())[1] == 0
    assert execute(Options(config, tmp_path / "clean", workers=2, scenarios=file), quiet())[1] == 0
    assert files(out) == files(tmp_path / "clean")


@pytest.mark.slow
def test_a_model_that_is_not_there_ends_the_run_at_once(tmp_path: Path):
    config, file = write_tiny_run(tmp_path, 1, SYSTEMS)
    config.write_text(config.read_text().replace("model\n", "no-model\n"), encoding="utf-8")
    from memkv.errors import ModelUnavailable

    with pytest.raises(ModelUnavailable, match="no-model"):
        execute(Options(config, tmp_path / "out", workers=1, scenarios=file), quiet())


@pytest.mark.slow
def test_ray_gives_the_same_rows(tmp_path: Path):
    pytest.importorskip("ray")
    config, file = write_tiny_run(tmp_path, 2, SYSTEMS)
    here, there = tmp_path / "here", tmp_path / "there"
    assert execute(Options(config, here, workers=1, scenarios=file), quiet())[1] == 0
    assert execute(Options(config, there, workers=2, scenarios=file, ray="local"), quiet())[1] == 0
    assert files(here) == files(there)


@pytest.mark.slow
def test_ray_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "eval.running.ray_workers", raising=False)
    config, file = write_tiny_run(tmp_path, 1, SYSTEMS)
    with pytest.raises(ConfigError, match="needs the package ray"):
        execute(Options(config, tmp_path / "out", workers=1, scenarios=file, ray="local"), quiet())
