"""Tune a LLaVA on instruction pairs: its projection alone, LoRA, or all of it.

LoRA (Hu et al. 2021) adds products of two thin matrices to the attention of the language model; they are merged into
its weights before these are written, so that every folder is loaded in the same way.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from fatescope.errors import ParamsError
from pipelines.language.conversations import Conversation, draw_questions, encode
from pipelines.language.llava import Llava

How = Literal["projection", "lora", "all"]
PROJECTION, TOWER = "multi_modal_projector", "vision_tower"


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
            loss = model(
                **encode(llava, [draw_questions(conversations[i], settings.questions, rng) for i in chosen], rng)
            ).loss
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
