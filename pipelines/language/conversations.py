"""Conversations about cells, and the batches that a LLaVA is tuned on."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops
from torch import Tensor

from pipelines.language import prompt
from pipelines.language.llava import Llava

IGNORED = -100
"""Target of tokens that are no answer."""
SHIFT = 3
"""Pixels by which a picture is shifted at most."""


@dataclass(frozen=True)
class Conversation:
    """A picture of a cell, and questions about it with their answers."""

    picture: Image.Image
    pairs: list[tuple[str, str]]


def read(folder: Path, part: str) -> list[Conversation]:
    """Return the conversations of a part that `instructions.write` wrote to `folder`."""
    conversations = []
    for line in (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        values = [turn["value"].removeprefix(f"{prompt.IMAGE}\n") for turn in content["conversations"]]
        with Image.open(folder / content["image"]) as image:
            picture = image.convert("L")
        conversations.append(Conversation(picture, list(zip(values[::2], values[1::2], strict=True))))
    return conversations


def side(conversations: list[Conversation]) -> int:
    """Return the side of the pictures, px, all of which are of one size."""
    return conversations[0].picture.width


def texts(conversations: list[Conversation]) -> list[str]:
    """Return all questions and answers, as they stand in a conversation."""
    return [f"USER: {q} ASSISTANT: {a}" for conversation in conversations for q, a in conversation.pairs]


def draw_questions(conversation: Conversation, count: int, rng: np.random.Generator) -> Conversation:
    """Return a conversation with `count` of its questions, the medium among them, in a new order.

    So each is the first one of some conversations, as it is when it is asked.
    """
    others = rng.permutation(np.arange(1, len(conversation.pairs)))[: count - 1]
    chosen = rng.permutation([0, *others.tolist()])
    return Conversation(conversation.picture, [conversation.pairs[i] for i in chosen])


def encode(llava: Llava, conversations: list[Conversation], rng: np.random.Generator) -> dict[str, Tensor]:
    """Return a batch with the tokens of the answers as labels, and pictures mirrored, turned and shifted."""
    turns = []
    for conversation in conversations:
        of_cell: list[dict[str, object]] = []
        for i, (question, answer) in enumerate(conversation.pairs):
            of_cell += [prompt.from_human(question, images=0 if i else 1), prompt.from_model(answer)]
        turns.append(of_cell)
    processor, tokenizer = llava.processor, llava.processor.tokenizer
    rendered = [processor.apply_chat_template(of_cell, tokenize=False) for of_cell in turns]
    pictures = [_change(conversation.picture, rng) for conversation in conversations]
    special = not (tokenizer.bos_token and rendered[0].startswith(tokenizer.bos_token))
    # On the right: positions of a causal model are then those that they are in an answer.
    tokenizer.padding_side = "right"
    options = {"return_tensors": "pt", "padding": True, "add_special_tokens": special}
    inputs = processor(images=pictures, text=rendered, **options)
    tokenizer.padding_side = "left"
    batch = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    pairs = [conversation.pairs for conversation in conversations]
    batch["labels"] = _label(llava, rendered, pairs, batch["input_ids"], special)
    return {name: value.to(llava.model.device) for name, value in batch.items()}


def _label(
    llava: Llava, rendered: list[str], pairs: list[list[tuple[str, str]]], tokens: Tensor, special: bool
) -> Tensor:
    """Return (B, T) `tokens` where they are of an answer or end it, and IGNORED elsewhere."""
    tokenizer, labels = llava.processor.tokenizer, torch.full_like(tokens, IGNORED)
    for i, (text, of_cell) in enumerate(zip(rendered, pairs, strict=True)):
        # The processor writes the token of the image once for each of its patches.
        count = int((tokens[i] == llava.processor.image_token_id).sum())
        written = text.replace(llava.processor.image_token, llava.processor.image_token * count)
        spans = _find_answers(written, of_cell, tokenizer.eos_token)
        offsets = tokenizer(written, return_offsets_mapping=True, add_special_tokens=special)["offset_mapping"]
        for place, (begin, end) in enumerate(offsets):
            # The space before an answer belongs to its first token.
            if any(start - 1 <= begin and start < end <= stop for start, stop in spans):
                labels[i, place] = tokens[i, place]
    return labels


def _find_answers(written: str, pairs: list[tuple[str, str]], end: str) -> list[tuple[int, int]]:
    """Return where each answer starts and stops in a conversation, the text that ends it included."""
    spans, place = [], 0
    for question, answer in pairs:
        start = written.index(answer, written.index(question, place) + len(question))
        place = start + len(answer)
        place += len(end) if written.startswith(end, place) else 0
        spans.append((start, place))
    return spans


def _change(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirror, turn and shift a picture at random; none of the facts changes."""
    for method in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE):
        if rng.random() < 0.5:
            picture = picture.transpose(method)
    right, down = rng.integers(-SHIFT, SHIFT + 1, 2).tolist()
    # The border is background all around.
    return ImageChops.offset(picture, right, down)
