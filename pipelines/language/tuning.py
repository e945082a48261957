"""Tune a LLaVA on instruction pairs: its projection alone, LoRA, or all of it.

LoRA (Hu et al. 2021) adds products of two thin matrices to the attention of the language model; they are merged into
its weights before these are written, so that every folder is loaded in the same way.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image, ImageChops
from torch import Tensor

from fatescope.errors import ParamsError
from pipelines.language import prompt
from pipelines.language.llava import Llava

How = Literal["projection", "lora", "all"]
PROJECTION, TOWER = "multi_modal_projector", "vision_tower"
IGNORED = -100
"""Target of tokens that are no answer."""
SHIFT = 3
"""Pixels by which a picture is shifted at most."""


@dataclass(frozen=True)
class Settings:
    """How a model is tuned."""

    how: How
    epochs: int
    minutes: float
    """At most; the learning rate falls to zero by then, or by the last epoch."""
    batch_size: int
    learning_rate: float
    seed: int
    questions: int
    """Questions about a cell in a conversation, drawn anew in each epoch; the medium is always one of them."""
    rank: int = 16
    """Of the matrices of LoRA."""
    tower_share: float = 0.1
    """Learning rate of the vision tower, where it is trained, as a share of that of the rest."""


def check_how(name: str) -> How:
    """Return the way of tuning that has this name; raises ParamsError where there is none."""
    if name not in get_args(How):
        raise ParamsError(f"'{name}' is no way of tuning; name one of {', '.join(get_args(How))}")
    return cast("How", name)


@dataclass(frozen=True)
class Conversation:
    """A picture of a cell, and questions about it with their answers."""

    picture: Image.Image
    pairs: list[tuple[str, str]]


def read_conversations(folder: Path, part: str) -> list[Conversation]:
    """Return the conversations of a part that `instructions.write` wrote to `folder`."""
    conversations = []
    for line in (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        values = [turn["value"].removeprefix(f"{prompt.IMAGE}\n") for turn in content["conversations"]]
        with Image.open(folder / content["image"]) as image:
            picture = image.convert("L")
        conversations.append(Conversation(picture, list(zip(values[::2], values[1::2], strict=True))))
    return conversations


def texts(conversations: list[Conversation]) -> list[str]:
    """Return all questions and answers, as they stand in a conversation."""
    return [f"USER: {q} ASSISTANT: {a}" for conversation in conversations for q, a in conversation.pairs]


def tune(
    llava: Llava, conversations: list[Conversation], settings: Settings, report: Callable[[int, float], None]
) -> Llava:
    """Return the model after training on `conversations`; `report` gets each epoch and its mean loss."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    model = _prepare(llava.model, settings)
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    weights = [weight for _, weight in named]
    groups = [
        {"params": [weight for name, weight in named if (TOWER in name) == of_tower], "share": share}
        for of_tower, share in ((False, 1.0), (True, settings.tower_share))
    ]
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, weight_decay=0.05, betas=(0.9, 0.98))
    model.train()
    start, steps = time.perf_counter(), settings.epochs * math.ceil(len(conversations) / settings.batch_size)
    step = 0
    for epoch in range(settings.epochs):
        losses = []
        for chosen in _batches(len(conversations), settings.batch_size, rng):
            done = max(step / steps, (time.perf_counter() - start) / (60 * settings.minutes))
            if done >= 1:
                break
            _set_rate(optimizer, settings.learning_rate, done)
            loss = model(**encode(llava, [draw_questions(conversations[i], settings, rng) for i in chosen], rng)).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            step += 1
        if not losses:
            break
        report(epoch, float(np.mean(losses)))
    tuned = model.merge_and_unload() if settings.how == "lora" else model
    return Llava(tuned.requires_grad_(True), llava.processor, llava.examples)


def save(llava: Llava, folder: Path) -> None:
    """Write a model with its processor to `folder`, for `llava.load` and for all that reads such folders."""
    llava.model.save_pretrained(folder)
    llava.processor.save_pretrained(folder)


def _prepare(model: Any, settings: Settings) -> Any:  # noqa: ANN401  transformers and peft have no types here
    """Return the model with those weights left to train that `settings.how` names."""
    if settings.how == "lora":
        adapters = LoraConfig(
            r=settings.rank,
            lora_alpha=2 * settings.rank,
            # Those of the language model, not those of the vision tower, which have the same names.
            target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)",
            modules_to_save=[PROJECTION],
        )
        return get_peft_model(model, adapters)
    for name, weight in model.named_parameters():
        weight.requires_grad_(settings.how == "all" or PROJECTION in name)
    return model


def _set_rate(optimizer: torch.optim.Optimizer, highest: float, done: float) -> None:
    """Raise the learning rate over the first twentieth, and let it fall along a cosine."""
    for group in optimizer.param_groups:
        group["lr"] = group["share"] * highest * min(1.0, 20 * done + 0.01) * (1 + math.cos(math.pi * done)) / 2


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    order = rng.permutation(count).tolist()
    for start in range(0, count, size):
        yield order[start : start + size]


def draw_questions(conversation: Conversation, settings: Settings, rng: np.random.Generator) -> Conversation:
    """Return a conversation with some of its questions in a new order: each is the first one of some, as when asked."""
    others = rng.permutation(np.arange(1, len(conversation.pairs)))[: settings.questions - 1]
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
