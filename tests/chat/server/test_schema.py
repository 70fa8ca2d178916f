"""The OpenAPI document is true: schemathesis asks for everything that it describes, and for what it forbids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from serving import application, listening

from memkv.model import HybridModel

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_server_does_what_its_document_says(llama: HybridModel, tmp_path: Path) -> None:
    with application(llama, tmp_path / "store") as app, listening(app) as address:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run",
                f"{address}/openapi.json", "--max-examples", "12", "--seed", "1", "--phases",
                "examples,coverage,fuzzing", "--no-color",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_every_route_is_described(llama: HybridModel, tmp_path: Path) -> None:
    with application(llama, tmp_path / "store") as app:
        document = app.openapi()
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert route["description"] or route["summary"], (method, path)
            assert "400" in route["responses"], (method, path)
