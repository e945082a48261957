"""A LLaVA in a local folder: answers about pictures of cells, and probabilities of classes.

The probabilities come from how likely the model finds each class name as its answer, so that it is measured like a CNN.
Nothing is downloaded: a folder that lacks a file is an error.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, LlavaForConditionalGeneration

from fatescope.errors import DataError
from pipelines.language import (
    encoder,  # noqa: F401  which makes backbones of Fatescope known to transformers
    prompt,
)

Turns = list[dict[str, object]]
"""A conversation in the form of chat templates."""


@dataclass(frozen=True)
class Example:
    """A picture with the answer to a question, shown before the question about another one."""

    picture: Image.Image
    answer: str


@dataclass
class Use:
    """What a model has cost so far."""

    cells: int = 0
    tokens_in: int = 0
    """Those that stand for pictures included."""
    tokens_out: int = 0
    seconds: float = 0.0
    cost: float | None = None
    """What an endpoint took for it; None where that is not known, or it runs here."""


class Llava:
    """A model with its processor, on one device, in evaluation mode."""

    def __init__(self, model: Any, processor: Any, examples: Sequence[Example] = ()) -> None:  # noqa: ANN401  transformers has no types here
        """Ask `model`; `examples` stand before the question of the medium (few-shot)."""
        self.model, self.processor, self.examples = model.eval(), processor, list(examples)
        self.use = Use()
        if not getattr(processor, "chat_template", None):
            processor.chat_template = prompt.CHAT_TEMPLATE
        # Answers begin at one place for all pictures of a batch.
        processor.tokenizer.padding_side = "left"

    @torch.inference_mode()
    def answer(self, pictures: Sequence[Image.Image], question: str, max_tokens: int = 64) -> list[str]:
        """Return the likeliest answer (greedy) to a question about each of the pictures."""
        start = time.perf_counter()
        inputs = self._encode(pictures, self._render(question, []))
        written = self.model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)[
            :, inputs["input_ids"].shape[1] :
        ]
        texts = self.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        self._count(inputs, int((written != self.processor.tokenizer.pad_token_id).sum()), start)
        return [text.strip() for text in texts]

    @torch.inference_mode()
    def probabilities(self, pictures: Sequence[Image.Image], classes: list[str]) -> npt.NDArray[np.float64]:
        """Return (n, K) probabilities of the classes: how likely each name is as the whole answer, made to sum to 1."""
        start = time.perf_counter()
        text = self._render(prompt.question(prompt.MEDIUM, classes), self.examples)
        pictures_before = [example.picture for example in self.examples]
        scores = []
        for name in classes:
            inputs = self._encode(pictures, text + self._continue(text, name), pictures_before)
            length = self._answer_length(text, name)
            logits = self.model(**inputs, logits_to_keep=length + 1).logits[:, :-1].float()
            targets = inputs["input_ids"][:, -length:]
            scores.append(logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0].sum(-1))
            self._count(inputs, 0, start if len(scores) == len(classes) else None)
        probabilities: npt.NDArray[np.float64] = torch.stack(scores, 1).double().softmax(1).cpu().numpy()
        return probabilities

    def _render(self, question: str, examples: Sequence[Example]) -> str:
        turns: Turns = []
        for example in examples:
            turns += [prompt.from_human(question), prompt.from_model(example.answer)]
        turns.append(prompt.from_human(question))
        return str(self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    def _continue(self, text: str, answer: str) -> str:
        """Return how an answer goes on after a rendered text, with the token that ends it."""
        return ("" if text[-1:].isspace() else " ") + answer + str(self.processor.tokenizer.eos_token)

    def _answer_length(self, text: str, answer: str) -> int:
        """Return the number of tokens of an answer after a text, whose own tokens stay as they are."""
        before, whole = (
            self.processor.tokenizer(part, add_special_tokens=False)["input_ids"]
            for part in (text, text + self._continue(text, answer))
        )
        shared = next((i for i, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1]), len(before))
        return len(whole) - shared

    def _encode(
        self, pictures: Sequence[Image.Image], text: str, before: Sequence[Image.Image] = ()
    ) -> dict[str, Tensor]:
        images = [[*before, picture] for picture in pictures]
        # A rendered conversation has its first token already where the template writes it.
        begun = self.processor.tokenizer.bos_token
        special = not (begun and text.startswith(begun))
        encoded = self.processor(
            images=[picture for pictures_of_cell in images for picture in pictures_of_cell],
            text=[text] * len(pictures),
            return_tensors="pt",
            padding=True,
            add_special_tokens=special,
        )
        return {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in encoded.items()
            if name != "token_type_ids"
        }

    def _count(self, inputs: dict[str, Tensor], written: int, start: float | None) -> None:
        self.use.tokens_in += int(inputs["attention_mask"].sum())
        self.use.tokens_out += written
        if start is not None:
            self.use.cells += len(inputs["input_ids"])
            self.use.seconds += time.perf_counter() - start


def load(folder: Path, examples: Sequence[Example] = ()) -> Llava:
    """Load the model in `folder`, in its own precision; on a GPU where there is one.

    Raises DataError where the folder does not hold a LLaVA with its processor.
    """
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = LlavaForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype="auto")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: no LLaVA that transformers can load ({error}); give a folder with config.json, weights and the "
            "files of its processor, such as a copy of llava-hf/llava-1.5-7b-hf"
        ) from error
    return Llava(model.to("cuda" if torch.cuda.is_available() else "cpu"), processor, examples)
