"""The OpenAI protocol's chat completions: what is taken, and what is given. What is not done is refused by name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from memkv.chat.server.options import LARGEST, Budget, Codec, SessionName, Strategy
from memkv.errors import InvalidInput
from memkv.sampling import Sampling
from memkv.turns import Message

LONGEST = 2**20  # characters of one text
MOST_MESSAGES = 2048
MOST_TOKENS = 2**20
Text = Annotated[str, Field(max_length=LONGEST)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class Part(BaseModel):
    """A part of a message: text."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: Text


class Said(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=MOST_MESSAGES)]
    name: str | None = Field(None, max_length=256, description="Ignored.")
    refusal: str | None = Field(None, max_length=LONGEST, description="Ignored.")


class TextFormat(BaseModel):
    """The one form of reply."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]


class StreamOptions(BaseModel):
    """Of a stream."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = Field(False, description="Ignored.")


class Request(BaseModel):
    """What `/v1/chat/completions` takes: OpenAI's fields, and memkv's own (`extra_body` in OpenAI's client)."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=1024, description="As `/v1/models` lists it.")
    messages: list[Said] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS, description="Longest reply, in tokens.")
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS, description="The same, by its newer name.")
    temperature: float | None = Field(None, ge=0, le=2, description="0, the default, takes the likeliest token.")
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-LARGEST, le=LARGEST)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = Field(None, description="Only 1.")
    logprobs: Literal[False] | None = Field(None, description="Not done.")
    top_logprobs: Literal[0] | None = Field(None, description="Not done.")
    frequency_penalty: Literal[0] | None = Field(None, description="Only 0.")
    presence_penalty: Literal[0] | None = Field(None, description="Only 0.")
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = Field(None, description="Not done.")
    tools: Annotated[list[Any], Field(max_length=0)] | None = Field(None, description="Not done.")
    tool_choice: Literal["none"] | None = Field(None, description="Only `none`.")
    functions: Annotated[list[Any], Field(max_length=0)] | None = Field(None, description="Not done.")
    response_format: TextFormat | None = Field(None, description="Only text.")
    modalities: list[Literal["text"]] | None = Field(None, description="Only text.")
    parallel_tool_calls: bool | None = Field(None, description="Ignored.")
    user: str | None = Field(None, max_length=1024, description="Ignored: the token says who it is.")
    safety_identifier: str | None = Field(None, max_length=1024, description="Ignored.")
    prompt_cache_key: str | None = Field(None, max_length=1024, description="Ignored: what was read is reused anyway.")
    metadata: dict[str, str] | None = Field(None, description="Ignored.")
    store: bool | None = Field(None, description="Ignored: a conversation is kept if it names a session.")
    service_tier: str | None = Field(None, max_length=64, description="Ignored.")
    session: SessionName | None = Field(
        None,
        description="Name of a session: it goes on, or begins. Then the new message is enough; what was said before "
        "may be sent along, and has to be what the session holds.",
    )
    context_budget: Budget | None = None
    strategy: Strategy | None = None
    codec: Codec | None = None
    rebuild: bool = Field(False, description="Read the text again if the stored cache belongs to another model.")


@dataclass(frozen=True)
class Asked:
    """A request, checked: the system prompt, what was said before, and the message to answer."""

    system: str
    before: tuple[Message, ...]
    text: str
    most: int
    sampling: Sampling
    stops: tuple[str, ...]


def checked(request: Request, default_most: int) -> Asked:
    """What a request asks for.

    Raises:
        InvalidInput: messages of which no conversation can be made.
    """
    messages = joined(request.messages)
    system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
    late = next((at for at, message in enumerate(messages) if message["role"] == "system"), None)
    if late is not None:
        raise InvalidInput("A system message stands between others", "Put all instructions first.")
    if not messages or messages[-1]["role"] != "user":
        raise InvalidInput("The last message is not the user's", "End with the message that is to be answered.")
    if messages[0]["role"] == "assistant":
        raise InvalidInput("The conversation begins with the assistant", "Begin with a message of the user's.")
    stops = [request.stop] if isinstance(request.stop, str) else list(request.stop or ())
    return Asked(
        system,
        tuple(messages[:-1]),
        messages[-1]["content"],
        request.max_completion_tokens or request.max_tokens or default_most,
        Sampling(request.temperature or 0.0, request.top_p or 1.0, (request.seed or 0) % LARGEST),
        tuple(stops),
    )


def joined(said: Sequence[Said]) -> list[Message]:
    """Messages with text alone; those of one voice that follow one another are one, as templates want turns."""
    found: list[Message] = []
    for each in said:
        role = "system" if each.role == "developer" else each.role
        text = each.content if isinstance(each.content, str) else "".join(part.text for part in each.content)
        if found and found[-1]["role"] == role:
            found[-1] = Message(role=role, content=f"{found[-1]['content']}\n\n{text}")
        else:
            found.append(Message(role=role, content=text))
    return found


@dataclass(frozen=True)
class Answered:
    """A reply with its account, whether or not a session keeps it.

    `reused` tokens were in the cache already, `spliced` came as cache out of memories, `read` were read for it.
    """

    text: str
    reused: int
    spliced: int
    read: int
    generated: int
    cache_bytes: int
    by_kind: Mapping[str, int]
    first_token_seconds: float
    seconds: float
    ended: bool
    interrupted: bool
    session: Mapping[str, Any] | None = None

    @property
    def finish(self) -> str:
        """Why it ended, in the protocol's words."""
        return "stop" if self.ended or self.interrupted else "length"

    def usage(self) -> dict[str, Any]:
        """The protocol's account, with reused tokens and bytes of cache beside."""
        prompt, cached = self.reused + self.spliced + self.read, self.reused + self.spliced
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.generated,
            "total_tokens": prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": cached},
            "reused_tokens": self.reused,
            "spliced_tokens": self.spliced,
            "cache_bytes": self.cache_bytes,
        }

    def details(self) -> dict[str, Any]:
        """What memkv says of it beyond the protocol."""
        return {
            "session": self.session,
            "cache_by_kind": dict(self.by_kind),
            "first_token_seconds": round(self.first_token_seconds, 4),
            "seconds": round(self.seconds, 4),
            "interrupted": self.interrupted,
        }


def completion(ident: str, model: str, answered: Answered) -> dict[str, Any]:
    """The whole reply at once."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answered.text, "refusal": None},
        "logprobs": None,
        "finish_reason": answered.finish,
    }
    return {
        "id": ident,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": answered.usage(),
        "memkv": answered.details(),
    }


def chunk(ident: str, model: str, delta: Mapping[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
    """A piece of a stream; without a delta one that holds no choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": ident,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [] if delta is None else [choice],
    }
