"""A client for the `/chat/completions` of any OpenAI-compatible endpoint: vLLM, llama.cpp, Ollama, a provider.

It waits no longer than it is told, tries again what may go right the next time, spends no more than its budget and
asks nothing twice that its cache knows.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

import httpx
from anyio.from_thread import start_blocking_portal

from fatescope import plural
from fatescope.errors import FatescopeError, ParamsError
from fatescope.language import chat
from fatescope.language.budget import Budget
from fatescope.language.cache import AnswerCache
from fatescope.language.chat import Answer, MalformedError, Question
from fatescope.language.settings import LanguageSettings, variable

AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
MAX_BODY: Final = 2_000_000
"""Longest response that is read, bytes."""
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 60.0
"""Longest wait before another try; an endpoint that asks for more is given up."""


class EndpointError(FatescopeError):
    """The endpoint gave no answer that can be used; `code` is unreachable, timeout, busy, refused or malformed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _AgainError(EndpointError):
    """What may succeed when it is tried again, after `wait_s` seconds where the endpoint says so."""

    def __init__(self, code: str, message: str, wait_s: float | None = None) -> None:
        super().__init__(code, message)
        self.wait_s = wait_s


class Client:
    """Asks one model at one endpoint; several threads may share it."""

    def __init__(
        self, settings: LanguageSettings, budget: Budget | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Raise ParamsError where no endpoint is set; without a `budget`, there is one for the client's life."""
        if settings.url is None or settings.model is None:
            raise ParamsError(
                f"no language model: set {variable('url')} to the address of its endpoint and {variable('model')}"
            )
        self._settings, self._sleep = settings, sleep
        self.address, self.model = settings.url, settings.model
        self.budget = budget or Budget(settings)
        self._cache = AnswerCache(settings.cache) if settings.cache else None
        key = settings.key.get_secret_value() if settings.key else ""
        self._secret = key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # On an event loop of its own, because a timeout of HTTP is for each read alone: only what can be cancelled
        # ends in time, whether it is the head or the body of a response that comes byte by byte.
        self._open = ExitStack()
        self._loop = self._open.enter_context(start_blocking_portal())
        # It never follows a redirection: the key and the question are for this address alone.
        http = httpx.AsyncClient(headers=headers, timeout=settings.timeout_s, follow_redirects=False)
        self._http = self._open.enter_context(self._loop.wrap_async_context_manager(http))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error, such as Ctrl-C, no answer is waited for.
        self._open.__exit__(kind, error, trace)

    @property
    def priced(self) -> bool:
        """Return whether the prices of tokens are set."""
        return self._settings.price_in is not None and self._settings.price_out is not None

    def close(self) -> None:
        """Close the connections."""
        self._open.close()

    def ask(self, question: Question) -> Answer:
        """Return the answer to a question; raises EndpointError or BudgetSpentError."""
        digest = question.digest(self.address, self.model)
        if self._cache and (known := self._cache.find(digest)):
            return known
        start = time.monotonic()
        answer = self._try_again(question)
        answer = replace(answer, seconds=time.monotonic() - start)
        if self._cache:
            self._cache.keep(digest, answer)
        return answer

    def ask_all(self, questions: Iterable[Question]) -> Iterator[Answer | EndpointError]:
        """Yield for each question its answer, or why there is none.

        Raises BudgetSpentError in place of the first that does not fit the budget any more: what was yielded before
        stays, and is in the cache if there is one, so that the same call goes on from there.
        """
        for question in questions:
            try:
                answer: Answer | EndpointError = self.ask(question)
            except EndpointError as error:
                answer = error
            yield answer

    def _try_again(self, question: Question) -> Answer:
        tries = self._settings.tries
        for number in range(tries):
            try:
                return self._try(question)
            except _AgainError as error:
                # Spread out, so that clients that failed together do not come back together.
                wait_s = FIRST_WAIT_S * 2**number * random.uniform(0.5, 1.0) if error.wait_s is None else error.wait_s
                if number + 1 == tries or wait_s > LONGEST_WAIT_S:
                    after = f"after {plural.count(number + 1, 'try', 'tries')}"
                    asks = f", and it asks to wait {wait_s:.0f} s" if wait_s > LONGEST_WAIT_S else ""
                    raise EndpointError(error.code, f"{error} ({after}{asks})") from error
                self._sleep(min(wait_s, LONGEST_WAIT_S))
        raise AssertionError("there is at least one try")

    def _try(self, question: Question) -> Answer:
        self.budget.admit(question.max_tokens)
        used = (0, 0)
        try:
            status, headers, raw = self._send(question)
            if status != 200:
                raise self._refusal(status, headers, raw)
            try:
                answer = chat.read(raw, question, self.model)
            except MalformedError as error:
                began = self._shown(raw, 120) or "it is empty"
                message = f"{self.address}: {error} ({began}); is it an OpenAI-compatible one?"
                raise EndpointError("malformed", message) from error
            used = answer.prompt_tokens, answer.completion_tokens
        finally:
            price = self.budget.settle(question.max_tokens, *used)
        return replace(answer, cost=price)

    def _send(self, question: Question) -> tuple[int, httpx.Headers, bytes]:
        """Send a question; return status, headers and body of the response."""
        try:
            return self._loop.call(self._exchange, question)
        except (TimeoutError, httpx.TimeoutException) as error:
            limit_s = self._settings.timeout_s
            message = f"{self.address}: no answer within {limit_s:g} s; raise {variable('timeout_s')}"
            raise _AgainError("timeout", message) from error
        except httpx.TransportError as error:
            message = f"{self.address}: cannot be reached ({error}); is it running, and {variable('url')} right?"
            raise _AgainError("unreachable", message) from error
        except (httpx.DecodingError, httpx.InvalidURL) as error:
            raise EndpointError("malformed", f"{self.address}: its answer cannot be read ({error})") from error

    async def _exchange(self, question: Question) -> tuple[int, httpx.Headers, bytes]:
        parts, size, address = list[bytes](), 0, f"{self.address}/chat/completions"
        async with (
            asyncio.timeout(self._settings.timeout_s),
            self._http.stream("POST", address, json=question.body(self.model)) as got,
        ):
            async for part in got.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_BODY:
                    raise EndpointError("malformed", f"{self.address}: its answer is over {MAX_BODY:,} bytes")
            return got.status_code, got.headers, b"".join(parts)

    def _refusal(self, status: int, headers: httpx.Headers, raw: bytes) -> EndpointError:
        text = self._shown(raw, 300)
        message = f"{self.address}: status {status}" + (f", {text}" if text else "")
        if status in AGAIN:
            return _AgainError("busy", message, _retry_after(headers.get("Retry-After")))
        if status in {401, 403}:
            message += f"; set {variable('key')} to a key of it"
        elif status == 404:
            message += f"; {variable('url')} ends with /v1 for most, and {variable('model')} is one that it has"
        return EndpointError("refused", message)

    def _shown(self, raw: bytes, characters: int) -> str:
        """Return the beginning of a response, for a message."""
        text = raw.decode("utf-8", "replace")
        # Before it is cut, so that no part of the key is left.
        text = text.replace(self._secret, "…") if self._secret else text
        return "".join(char if char.isprintable() else " " for char in text[:characters]).strip()


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` asks for, a number or a date; None where it has neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp())
