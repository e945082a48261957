"""A tiny LLaVA, trained from nothing on simulated cells, beside the CNN on the same test cells.

Run with `fatescope bench language`; it needs the extra `language`, and no weights. Its vision encoder is a compact
network that was trained first; then all of it is tuned on instruction pairs, for the epochs of TUNING, on one thread.
The CNN has the settings of `params.yaml`; both learn from the training cells of the grouped split, and nothing
is chosen on test cells. `--keep FOLDER` keeps the model and what it answers.
"""

import json
import tempfile
import time
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from scipy.special import softmax

from benchmarks.few_labels.sets import ONE_THREAD, Sets
from benchmarks.report import publish
from benchmarks.tables import Row, fill, table, to_figures
from fatescope.command import run
from fatescope.config import Params
from fatescope.data import dataset, splits
from fatescope.data.dataset import CellDataset
from fatescope.networks.network import Network
from pipelines.evaluation import acquisition
from pipelines.evaluation.audit_report import TaskBaselines
from pipelines.evaluation.audit_sample import choose_cells, describe_cells
from pipelines.evaluation.language_report import Judged, LanguageReport
from pipelines.language import conversations, evaluation, instructions, llava, prompt, tiny, tuning, verdict
from pipelines.language.facts import WORDS
from pipelines.training import trainer
from pipelines.training.examples import load_examples
from pipelines.training.prediction import predict

PAGE = Path("docs/explanation/language.md")
TASK, SCHEME, SEED = "binary", "grouped", 0
TUNING = tuning.Settings(how="all", epochs=16, minutes=12.0, batch_size=16, learning_rate=1e-3, seed=SEED, questions=4)
LORA = replace(TUNING, how="lora", epochs=2, minutes=3.0, learning_rate=2e-4)
"""How the tuned model is tuned further: of random weights these few make nothing."""
EXAMPLES = 2
"""Training cells of each class that are shown before a test cell (few-shot)."""
RIGHT = ">= 0.7"
"""Share of answers on size and focus whose word, one of three, is that of the measured value."""
NUMBER = {"balanced accuracy": "{:.3f}", "low": "{:.3f}", "high": "{:.3f}", "MCC": "{:.3f}", "Brier score": "{:.3f}"}


def audit(cells: CellDataset, params: Params) -> TaskBaselines:
    """Return what acquisition alone, and simple features of the cell, predict of the classes."""
    classes = params.classes(TASK)
    places = np.flatnonzero(cells.manifest["label"].isin(classes))
    rows = places[choose_cells(cells.manifest.iloc[places], params.dataset, params.audit)]
    sample = describe_cells(cells, rows, {}, params.train.normalisation, starmap)
    predictions = acquisition.predict_from_acquisition(sample, params.audit)
    return acquisition.task_baselines(
        sample, predictions, acquisition.predict_from_cell(sample, params.audit), classes
    )[SCHEME]


def probabilities_of(network: Network, cells: CellDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
    """Return the (n, K) probabilities of a network for rows of cells."""
    values: npt.NDArray[np.floating] = softmax(predict(network, cells.pixels, rows).logits.astype(np.float64), axis=1)
    return values


def tabulate(name: str, judged: Judged, bar: float | None = None) -> Row:
    """Return the row of a model; with `bar`, the lower end of its interval must be above it."""
    ends = dict(zip(("low", "high"), judged.intervals["balanced_accuracy"] or [], strict=False))
    values = {
        "balanced accuracy": judged.score.balanced_accuracy,
        **ends,
        "MCC": judged.score.mcc,
        "Brier score": judged.calibration.brier,
    }
    return Row(name, values, {} if bar is None else {"low": f">= {bar:.4f}"}, NUMBER)


def answer_rows(report: LanguageReport) -> list[Row]:
    """Return the rows of the answers, one a question."""
    rows = []
    for topic, answered in report.answers.items():
        values = {"can be read": answered.parsed, "contradict what is measured": answered.contradicted}
        if answered.right is not None:
            values["right"] = answered.right
        bars = {"right": RIGHT} if topic in (prompt.SIZE, prompt.FOCUS) else {}
        rows.append(Row(topic if topic not in WORDS else f"{topic} ({', '.join(WORDS[topic])})", values, bars))
    return rows


def main(
    work: Annotated[Path | None, typer.Option(help="Folder that keeps the cells for the next run.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep the model and its answers in.")] = None,
    small: Annotated[bool, typer.Option("--small", help="Seconds of training, to check the program.")] = False,
) -> None:
    """Train, ask, print and write the tables."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fatescope-language-") as temporary:
        rows = measure(Sets(Path(), work, small), keep or Path(temporary), small)
    publish(
        "language",
        [f for section, found in rows.items() for f in to_figures(section, found)],
        ["torch", "transformers"],
        SEED,
    )
    if not small:
        fill(PAGE, {f"language:{section}": table(found) for section, found in rows.items()})


def report_epoch(epoch: int, loss: float) -> None:
    """Print the loss of an epoch."""
    print(f"epoch {epoch + 1}: loss {loss:.3f}", flush=True)


def measure(sets: Sets, folder: Path, small: bool) -> dict[str, list[Row]]:
    """Return section → rows; `folder` gets the pairs, the model and its answers."""
    params, model = sets.params, folder / "model"
    sets.default(TASK)
    source = sets.work / "default"
    cells = dataset.load(source / "cells")
    data = instructions.write(
        params, source / "cells", source / "splits.parquet", TASK, folder / "pairs", scheme=SCHEME, pixel_size_um=None
    )
    baselines = audit(cells, params)
    examples = load_examples(cells, splits.load(source / "splits.parquet"), SCHEME, data.classes)
    common, silent = params.train.changed(ONE_THREAD), lambda *_: None
    start = time.perf_counter()
    cnn = trainer.fit(examples, len(data.classes), common, SEED, silent).network
    minutes = {"CNN": (time.perf_counter() - start) / 60}
    start = time.perf_counter()
    training = conversations.read(folder / "pairs", "train")
    side = conversations.side(training)
    square = common.changed({"input_size": (side, side)})
    encoder = trainer.fit(examples, len(data.classes), square, SEED, silent).network
    tiny.build_on(encoder, model, side, conversations.texts(training), SEED)
    settings = replace(TUNING, epochs=1) if small else TUNING
    tuned = tuning.tune(llava.load(model), training, settings, report_epoch)
    tuning.save(tuned, model)
    minutes["LLaVA"] = (time.perf_counter() - start) / 60
    report, texts = verdict.judge(
        llava.load(model), lambda rows: probabilities_of(cnn, cells, rows), cells, data, baselines
    )
    report.write(folder / "language.json")
    (folder / "answers.json").write_text(json.dumps(texts, indent=1), encoding="utf-8")
    test = np.array(data.rows["test"])
    shown = llava.load(model, evaluation.choose_examples(folder / "pairs", data, EXAMPLES))
    adapted = tuning.tune(llava.load(model), training, replace(LORA, epochs=1) if small else LORA, report_epoch)
    others = {
        "its vision encoder with a linear head": probabilities_of(encoder, cells, test),
        f"tiny LLaVA, {EXAMPLES} cells of each class shown first": verdict.classify(shown, cells, test, data.classes),
        f"tiny LLaVA, {LORA.epochs} more epochs of LoRA": verdict.classify(adapted, cells, test, data.classes),
    }
    return tabulate_all(report, baselines, minutes, data, others, cells)


def tabulate_all(
    report: LanguageReport,
    baselines: TaskBaselines,
    minutes: dict[str, float],
    data: instructions.Instructions,
    others: dict[str, npt.NDArray[np.floating]],
    cells: CellDataset,
) -> dict[str, list[Row]]:
    """Return section → rows; `others` are name → (n, K) probabilities of the test cells by further models."""
    test = np.array(data.rows["test"])
    manifest = cells.take(test, ["label", "group"])
    targets = dataset.class_indices(manifest["label"], data.classes)
    groups = manifest["group"].to_numpy(str)
    scored = [
        tabulate(name, verdict.score(targets, values, groups, data.classes, baselines))
        for name, values in others.items()
    ]
    alone = [
        Row(name, {"balanced accuracy": b.value, "low": b.low, "high": b.high}, {}, NUMBER)
        for name, b in (
            ("acquisition alone", baselines.acquisition),
            ("simple features of the cell", baselines.cell_figures),
        )
    ]
    bar = max(baselines.acquisition.value, baselines.acquisition.chance)
    by = report.difference
    forms = {"tokens read": "{:.0f}", "tokens written": "{:.0f}", "seconds": "{:.3f}", "minutes of training": "{:.1f}"}
    effort = report.effort
    return {
        "models": [
            *alone,
            tabulate("CNN (compact)", report.cnn),
            tabulate("tiny LLaVA", report.language, bar),
            *scored,
        ],
        "difference": [
            Row(
                "tiny LLaVA less CNN",
                {"balanced accuracy": by.value, "low": by.low, "high": by.high},
                {},
                dict.fromkeys(NUMBER, "{:+.3f}"),
            )
        ],
        "answers": answer_rows(report),
        "effort": [
            Row("CNN (compact)", {"minutes of training": minutes["CNN"]}, {}, forms),
            Row(
                "tiny LLaVA, its vision encoder included",
                {
                    "minutes of training": minutes["LLaVA"],
                    "tokens read": effort.tokens_in,
                    "tokens written": effort.tokens_out,
                    "seconds": effort.seconds,
                },
                {"minutes of training": "<= 15"},
                forms,
            ),
        ],
    }


if __name__ == "__main__":
    run(main)
