"""Questions to a language model, and its answers, in the form of `/v1/chat/completions`.

The form is that of OpenAI's API, which vLLM, llama.cpp and Ollama speak too. An image is a `data:` address in an
`image_url`, so that no server fetches anything.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fatescope.errors import FatescopeError

MAX_TEXT = 100_000
"""Longest answer that is read, characters."""
_MAX_COUNT = 10_000_000
"""Most tokens of one answer that are believed; no model reads as many."""


class MalformedError(FatescopeError):
    """An answer that is not what the protocol says."""


@dataclass(frozen=True)
class Message:
    """What one side says: text, after any images."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[bytes, ...] = ()
    """PNG files."""


@dataclass(frozen=True)
class Question:
    """What a model is asked, with all that its answer depends on."""

    messages: tuple[Message, ...]
    max_tokens: int = 300
    """Longest answer."""
    temperature: float = 0.0
    seed: int = 0
    logprobs: int = 0
    """So many alternatives to each token, with their log probabilities, where the endpoint gives them; 0 for none."""

    def body(self, model: str) -> dict[str, Any]:
        """Return the JSON of the request."""
        alternatives = {"logprobs": True, "top_logprobs": self.logprobs} if self.logprobs else {}
        return {"model": model, "messages": [_write(message) for message in self.messages], **self._sampling()} | (
            alternatives
        )

    def digest(self, address: str, model: str) -> str:
        """Return what differs whenever the answer may: a hash of endpoint, model, texts, images and parameters."""
        said = [
            [message.role, message.text, [hashlib.sha256(png).hexdigest() for png in message.images]]
            for message in self.messages
        ]
        content = [address, model, said, self._sampling(), self.logprobs]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()

    def _sampling(self) -> dict[str, float | int | bool]:
        return {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed, "stream": False}


@dataclass(frozen=True)
class Answer:
    """What a model said, and what it cost."""

    text: str
    model: str
    """The model that was asked."""
    cut: bool
    """Whether it broke off at `max_tokens`."""
    prompt_tokens: int
    completion_tokens: int
    counted: bool
    """Whether the endpoint gave the numbers of tokens; otherwise they are estimates, four characters each."""
    first: Mapping[str, float] | None
    """Alternatives to the first token → log probability; None where the endpoint gives none."""
    seconds: float = 0.0
    """How long it took, tries included; of a kept answer, when it was first given."""
    cost: float = 0.0
    """Its price."""
    kept: bool = False
    """Whether it is from the cache, and cost nothing this time."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a cache keeps it."""
        return asdict(self)


def _write(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    pictures = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}}
        for png in message.images
    ]
    return {"role": message.role, "content": [*pictures, {"type": "text", "text": message.text}]}


def read(raw: bytes, question: Question, model: str) -> Answer:
    """Return the answer in the body of a response; raises MalformedError, which says what is wrong with it."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedError("its answer is not JSON") from error
    try:
        choice = content["choices"][0]
        text = _text(choice["message"]["content"])
    except (KeyError, IndexError, TypeError) as error:
        raise MalformedError("its answer has no choices[0].message.content") from error
    if len(text) > MAX_TEXT:
        raise MalformedError(f"its answer has {len(text):,} characters, and at most {MAX_TEXT:,} are read")
    asked = sum(len(message.text) for message in question.messages)
    given = content.get("usage")
    usage = given if isinstance(given, dict) else {}
    tokens = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (
        estimate if count is None else count
        for count, estimate in zip(tokens, (_estimate(asked), _estimate(len(text))), strict=True)
    )
    return Answer(
        text=text,
        model=model,
        cut=choice.get("finish_reason") == "length",
        prompt_tokens=prompt,
        completion_tokens=completion,
        counted=None not in tokens,
        first=_first(choice.get("logprobs")),
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    # Some servers answer in parts, as they are asked.
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    raise TypeError


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None


def _estimate(characters: int) -> int:
    return -(-characters // 4)


def _first(logprobs: object) -> dict[str, float] | None:
    """Return the alternatives to the first token; None where there are none, or not in the form of the protocol."""
    try:
        entry = logprobs["content"][0]  # type: ignore[index]  # whatever the endpoint sent
        found = {str(one["token"]): float(one["logprob"]) for one in [*entry["top_logprobs"], entry]}
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return found if all(value <= 1e-6 for value in found.values()) else None
