"""The page, in a real browser with the embedded model: what a person would do, and a server that is killed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from memkv.chat.demo_text import FILLER
from memkv.chat.policies import POLICIES
from memkv.chat.server.app import STATIC

POLICY = POLICIES[0]
SCREENS = Path(__file__).parent / "screens"
POLICY_WORDS = ("deputy editor", "three confirmations", "five hours", "nine words", "written consent", "by phone")
WORDS = 'Is <img src=x onerror="alert(1)"> a <b>headline</b>?'


def shot(page: Page, name: str) -> None:
    """A picture for the README, where one is asked for."""
    if os.environ.get("MEMKV_SCREENSHOTS"):
        page.screenshot(path=SCREENS / f"{name}.png")


def enter(page: Page, address: str, token: str) -> None:
    """Open the page with a token."""
    page.goto(address)
    page.fill("#token", token)
    page.click("dialog button[type=submit]")


def say(page: Page, text: str) -> None:
    """Send a message and wait for the whole answer."""
    before = page.locator(".message.assistant").count()
    page.fill("#text", text)
    page.press("#text", "Enter")
    expect(page.locator(".message.assistant")).to_have_count(before + 1)
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator(".reading")).to_have_count(0)


def begin(page: Page, name: str, **fields: str) -> None:
    """A new session."""
    page.click("#new")
    page.fill("#name", name)
    for field, value in fields.items():
        page.fill(f"#{field}", value)
    page.click("dialog button[type=submit]")
    expect(page.locator("#session-name")).to_have_text(name)


@pytest.mark.slow
@pytest.mark.keeps_home
def test_rules_survive_a_compaction_and_a_killed_server_and_belong_to_one_tenant(server, pages) -> None:
    page = pages.new()
    enter(page, server.address, "ada-0123456789abcdef")
    expect(page.locator("#where")).to_contain_text("ada")
    shot(page, "welcome")

    # Teach rules, fill the context, see what the compaction kept.
    begin(page, "editorial", budget="20 MiB")
    say(page, POLICY.text)
    for text in FILLER:
        if page.locator(".event.compaction").count():
            break
        say(page, text)
    page.click("#tab-timeline")
    compaction = page.locator(".event.compaction").first
    expect(compaction).to_contain_text("over the budget")
    compaction.locator("summary").click()
    labels = set(compaction.locator(".label").all_inner_texts())
    assert labels and labels <= {"verbatim", "in the summary", "only in the store", "dropped", "unsure"}
    shot(page, "timeline")
    page.click("#tab-tiers")
    kept = page.locator("#tiers").inner_text()
    assert sum(word in kept for word in POLICY_WORDS) >= 4, kept
    shot(page, "tiers")

    # Nothing that is said is read as HTML.
    say(page, WORDS)
    assert page.locator("#messages img, #messages b").count() == 0
    assert WORDS in page.locator("#messages").inner_text()

    # kill -9: what is being typed stays; after a restart the session goes on without being read again.
    server.kill()
    page.fill("#text", "How long may a headline be?")
    page.press("#text", "Enter")
    expect(page.locator("#banner")).to_contain_text("cannot be reached")
    expect(page.locator("#text")).to_have_value("How long may a headline be?")
    server.start()
    page.reload()
    expect(page.locator("#account")).to_contain_text("none read again")
    assert page.locator("#tiers").inner_text() != ""
    assert WORDS in page.locator("#messages").inner_text()
    say(page, "How long may a headline be?")
    reused = re.search(r"(\d+) tokens reused", page.locator("#account").inner_text())
    assert reused and int(reused[1]) > 100
    kept = page.locator("#tiers").inner_text()
    assert sum(word in kept for word in POLICY_WORDS) >= 4, kept

    # Dark, and narrow.
    dark = pages.new(color_scheme="dark")
    enter(dark, server.address, "ada-0123456789abcdef")
    dark.click("#session-list a:has-text('editorial')")
    expect(dark.locator("#tiers .item").first).to_be_visible()
    dark.click("#tab-timeline")
    shot(dark, "dark")
    narrow = pages.new(viewport={"width": 390, "height": 844})
    enter(narrow, server.address, "ada-0123456789abcdef")
    narrow.click("#show-sessions")
    narrow.click("#session-list a:has-text('editorial')")
    expect(narrow.locator("#session-name")).to_have_text("editorial")
    expect(narrow.locator("#text")).to_be_visible()
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 390
    shot(narrow, "narrow")
    narrow.click("#show-memory")
    expect(narrow.locator("#tiers")).to_be_visible()

    # Another day, another session: what was said last week comes back, and it says from where.
    begin(page, "another-day")
    say(page, "How many words may a headline of ours have at most?")
    page.click("#tab-why")
    expect(page.locator("#why")).to_contain_text("session editorial")
    shot(page, "why")

    # Somebody else sees nothing of it.
    other = pages.new()
    enter(other, server.address, "bob-0123456789abcdef")
    expect(other.locator("#session-list")).to_contain_text("No sessions yet")
    other.goto(f"{server.address}/#/editorial")
    expect(other.locator("#banner")).to_contain_text("editorial")
    assert POLICY_WORDS[0] not in other.locator("body").inner_text()

    # Forgotten is gone.
    page.click("#session-list a:has-text('editorial')")
    expect(page.locator("#session-name")).to_have_text("editorial")
    page.click("#forget-session")
    page.click("dialog button[type=submit]")
    expect(page.locator("#session-list")).not_to_contain_text("editorial")
    page.click("#session-list a:has-text('another-day')")
    expect(page.locator("#session-name")).to_have_text("another-day")
    page.fill("#search", POLICY_WORDS[0])
    expect(page.locator("#session-list")).to_contain_text("Nowhere")


def test_the_page_is_small_and_asks_for_nothing_from_elsewhere() -> None:
    files = [path for path in STATIC.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 150_000
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|innerHTML|insertAdjacentHTML|document\.write|eval\(", text), path.name
