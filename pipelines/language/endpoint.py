"""A model behind an OpenAI-compatible endpoint, asked about pictures of cells as a LLaVA in a folder is.

It has the methods of `llava.Llava`, so that one verdict judges both. The endpoint, its budget and its cache are those
of the environment (`fatescope.language.settings`). This is the one place that sends images of cells anywhere: to the
address that was set.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image

from fatescope.language import class_answer
from fatescope.language.chat import Answer, Message, Question
from fatescope.language.client import Client, EndpointError
from fatescope.language.settings import LanguageSettings
from pipelines.language import prompt
from pipelines.language.llava import Example, Use

LOGPROBS = 20
"""Alternatives to the first token that are asked for: most endpoints give no more."""
CLASS_TOKENS = 16
"""Longest answer that names a class."""


class Endpoint:
    """Asks one picture at a time; what it was asked before is in its cache, if it has one."""

    def __init__(self, client: Client, examples: Sequence[Example] = ()) -> None:
        """`examples` stand before the question of the medium (few-shot)."""
        self._client, self.examples = client, list(examples)
        self.use = Use()
        """What it took so far; answers of the cache cost what they did when they were first given."""
        self.failed: list[str] = []
        """Why questions have no answer; they count as answers that cannot be read."""

    def answer(self, pictures: Sequence[Image.Image], question: str, max_tokens: int = 64) -> list[str]:
        """Return the answer to a question about each of the pictures, empty where there is none.

        Raises BudgetSpentError where the budget ends; with a cache, the same call goes on from there.
        """
        return [answer.text.strip() if answer else "" for answer in self._ask(pictures, question, max_tokens)]

    def probabilities(self, pictures: Sequence[Image.Image], classes: list[str]) -> npt.NDArray[np.float64]:
        """Return (n, K) probabilities of the classes.

        They are those of the first token where the endpoint gives them; otherwise the class that the text names has
        all, and where it names none, all classes have the same. Raises BudgetSpentError as `answer` does.
        """
        question = prompt.question(prompt.MEDIUM, classes)
        answers = self._ask(pictures, question, CLASS_TOKENS, self.examples, logprobs=LOGPROBS)
        return np.array([_probabilities(answer, classes) for answer in answers]).reshape(-1, len(classes))

    def _ask(
        self,
        pictures: Sequence[Image.Image],
        question: str,
        max_tokens: int,
        examples: Sequence[Example] = (),
        logprobs: int = 0,
    ) -> list[Answer | None]:
        before: list[Message] = []
        for example in examples:
            before += [Message("user", question, (_png(example.picture),)), Message("assistant", example.answer)]
        questions = [
            Question((*before, Message("user", question, (_png(picture),))), max_tokens, logprobs=logprobs)
            for picture in pictures
        ]
        answers: list[Answer | None] = []
        for answer in self._client.ask_all(questions):
            if isinstance(answer, EndpointError):
                self.failed.append(str(answer))
                answers.append(None)
                continue
            self.use.tokens_in += answer.prompt_tokens
            self.use.tokens_out += answer.completion_tokens
            self.use.seconds += answer.seconds
            if self._client.priced:
                self.use.cost = (self.use.cost or 0.0) + answer.cost
            answers.append(answer)
        self.use.cells += len(pictures)
        return answers


@contextmanager
def connected(examples: Sequence[Example] = ()) -> Iterator[Endpoint]:
    """Yield the endpoint of the environment; raises ParamsError where none is set."""
    with Client(LanguageSettings.read()) as client:
        yield Endpoint(client, examples)


def _probabilities(answer: Answer | None, classes: list[str]) -> list[float]:
    by_token = class_answer.probabilities(answer, classes) if answer else None
    if by_token is not None:
        return by_token
    name = class_answer.named(answer.text, classes) if answer else None
    return [1 / len(classes)] * len(classes) if name is None else [float(known == name) for known in classes]


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
