"""A browser, and a server in a process of its own that can be killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

TOKENS = {"ada": "ada-0123456789abcdef", "bob": "bob-0123456789abcdef"}
PATIENCE = 120_000  # milliseconds: the model has two cores at most
SIZE = {"width": 1280, "height": 800}  # as the README shows it


class Server:
    """`memkv serve` with two tenants."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.tokens = folder / "tokens.yaml"
        self.tokens.write_text(json.dumps(TOKENS), encoding="utf-8")
        self.start()

    def start(self) -> None:
        """Start it, at the same address as before; the address is printed when it listens."""
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "memkv.chat.cli", "serve", "--port", str(self.port), "--json", "--store",
                str(self.folder / "store"), "--tokens", str(self.tokens), "--max-tokens", "24",
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["address"]
        self.port = urlsplit(self.address).port or 0

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one of Playwright."""
    found = shutil.which("chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium here: apt-get install chromium")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    pages = Pages(browser)
    yield pages
    pages.check()


class Pages:
    """Pages that reach this machine alone, and what went wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.contexts: list[BrowserContext] = []
        self.wrong: list[str] = []

    def new(self, **options: object) -> Page:
        """A page of somebody who was never here."""
        context = self.browser.new_context(**{"viewport": SIZE, **options})  # type: ignore[arg-type]
        self.contexts.append(context)
        context.route("**/*", self.at_home)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        page.on("dialog", lambda dialog: self.wrong.append(f"an alert: {dialog.message}"))
        return page

    def at_home(self, route: Route) -> None:
        """Let nothing leave this machine."""
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            self.wrong.append(f"asked for {route.request.url}")
            route.abort()

    def check(self) -> None:
        """Close all, and say what went wrong."""
        for context in self.contexts:
            context.close()
        assert self.wrong == []
