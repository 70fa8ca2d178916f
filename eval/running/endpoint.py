"""Any OpenAI-compatible server as the reader: it gets the whole conversation and each question, and answers in words.

There are no likelihoods and no cache to measure: options are lettered and the written letter is read strictly.
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import os
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from eval.reading import dated
from eval.rows import Answer
from eval.scenarios import Probe, Scenario, to_message
from eval.scorers import complies, parse_letter
from memkv.errors import ConfigError, MemkvError

# In front of the model's name, as the name of a system.
ENDPOINT = "endpoint:"
KEY = "OPENAI_API_KEY"

LETTER_TOKENS = 16  # room for "The answer is B." of models that do not keep to the letter
TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class EndpointError(MemkvError):
    """The server gave no answer that can be used."""


class EndpointTimeout(EndpointError):
    """No answer in time, at every try."""


class EndpointUnreachable(EndpointError):
    """No connection, or an HTTP status of failure at every try."""


class EndpointRefused(EndpointError):
    """An HTTP status that says that the request itself is wrong; it is not tried again."""


class EndpointGarbled(EndpointError):
    """The answer is no chat completion."""


@dataclass(frozen=True)
class Endpoint:
    """A server.

    Attributes:
        url: up to and with the version, as in `http://localhost:8000/v1`.
        model: the name that it knows the model by.
        timeout: seconds for one try.
        tries: how often one request is sent before it counts as failed.
        pause: seconds before the second try; twice as long before each further one.
    """

    url: str
    model: str
    timeout: float = 60.0
    tries: int = 3
    pause: float = 1.0

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return ENDPOINT + self.model


@dataclass(frozen=True)
class Reply:
    """What the server wrote, and the tokens it says it took; 0 where it does not say."""

    text: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Asked:
    """All probes of a scenario.

    Attributes:
        answers: one a probe, in order; `written` is what the server wrote.
        prefilled, generated: tokens as the server counted them.
        first: seconds until the median answer, which is written whole. `seconds`: in all.
    """

    answers: tuple[Answer, ...]
    prefilled: int
    generated: int
    first: float
    seconds: float


def check_endpoint(url: str | None, model: str | None) -> None:
    """Refuse half of an endpoint.

    Raises:
        ConfigError: only one of the two is given, or the URL is none.
    """
    if (url is None) != (model is None):
        raise ConfigError("--endpoint and --endpoint-model belong together", "Give the URL and the model's name.")
    if url is not None and not url.startswith(("http://", "https://")):
        raise ConfigError(f"--endpoint {url!r} is no URL", "Write for example http://localhost:8000/v1.")


def ask_all(endpoint: Endpoint, scenario: Scenario) -> Asked:
    """Send every probe of `scenario`, one after the other.

    Raises:
        EndpointError: a request failed for good; see its subclasses.
    """
    answers, waits, prefilled, generated = [], [], 0, 0
    started = time.perf_counter()
    with requests.Session() as session:
        for probe in scenario.probes:
            began = time.perf_counter()
            reply = send(endpoint, session, request_body(endpoint, scenario, probe))
            waits.append(time.perf_counter() - began)
            answers.append(mark(probe, reply.text))
            prefilled, generated = prefilled + reply.prompt_tokens, generated + reply.completion_tokens
    seconds = time.perf_counter() - started
    return Asked(tuple(answers), prefilled, generated, sorted(waits)[len(waits) // 2], seconds)


def request_body(endpoint: Endpoint, scenario: Scenario, probe: Probe) -> dict[str, Any]:
    """The JSON of one request: the conversation, then the question on the day of asking."""
    question = dated(scenario, probe)
    if probe.options:
        letters = zip(string.ascii_uppercase, probe.options, strict=False)
        lines = [question, *(f"{letter}. {option}" for letter, option in letters), "Answer with the letter only."]
        question = "\n".join(lines)
    return {
        "model": endpoint.model,
        "messages": [*(to_message(turn) for turn in scenario.turns), {"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": LETTER_TOKENS if probe.options else probe.max_tokens,
    }


def mark(probe: Probe, text: str) -> Answer:
    """The answer as written. One that names no letter is wrong, and can be told by its text."""
    if probe.check is not None:
        right = complies(text, probe.check)
    else:
        right = parse_letter(text, len(probe.options)) == probe.answer
    return Answer(probe.id, probe.rule, probe.kind, (), right, float(right), text)


def send(endpoint: Endpoint, session: requests.Session, body: Mapping[str, Any]) -> Reply:
    """One request, tried again with growing pauses while that may help.

    Raises:
        EndpointError: see its subclasses.
    """
    failure: EndpointError | None = None
    for number in range(endpoint.tries):
        if number:
            time.sleep(endpoint.pause * 2 ** (number - 1))
        try:
            response = session.post(
                endpoint.url.rstrip("/") + "/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {os.environ[KEY]}"} if os.environ.get(KEY) else {},
                timeout=endpoint.timeout,
            )
        except requests.Timeout:
            failure = EndpointTimeout(
                f"{endpoint.url} did not answer within {endpoint.timeout:g} s, {endpoint.tries} times",
                "Look whether the server runs; --endpoint-timeout allows it more seconds.",
            )
            continue
        except requests.ConnectionError as error:
            failure = EndpointUnreachable(
                f"{endpoint.url} cannot be reached ({type(error).__name__})", "Start the server, or correct the URL."
            )
            continue
        except requests.RequestException as error:
            raise EndpointGarbled(
                f"{endpoint.url} does not speak HTTP as expected: {error}", "Check the URL."
            ) from error
        if response.status_code in TRY_AGAIN:
            failure = EndpointUnreachable(
                f"{endpoint.url} answered with status {response.status_code}, {endpoint.tries} times",
                "See the server's log, then run again with --retry-failed.",
            )
            continue
        return read_reply(endpoint, response)
    assert failure is not None
    raise failure


def read_reply(endpoint: Endpoint, response: requests.Response) -> Reply:
    """The written text of a chat completion.

    Raises:
        EndpointRefused: a status of refusal.
        EndpointGarbled: no JSON, or JSON without the text of an answer.
    """
    if response.status_code != 200:
        raise EndpointRefused(
            f"{endpoint.url} refused with status {response.status_code}: {response.text[:200].strip()}",
            f"Check the URL, --endpoint-model and the key in {KEY}.",
        )
    try:
        data = response.json()
        text = data["choices"][0]["message"]["content"]
        usage = data.get("usage") or {}
        counts = [usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise garbled(endpoint, response) from error
    # A model that ends at once, or only thinks, gives null: an answer without words, which is wrong.
    if not isinstance(text, str | None) or not all(type(count) is int for count in counts):
        raise garbled(endpoint, response)
    return Reply(text or "", counts[0], counts[1])


def garbled(endpoint: Endpoint, response: requests.Response) -> EndpointGarbled:
    """The error for an answer that is no chat completion."""
    return EndpointGarbled(
        f"{endpoint.url} answered with something else than a chat completion: {response.text[:200].strip()!r}",
        "The URL should end in /v1 and belong to an OpenAI-compatible server.",
    )
