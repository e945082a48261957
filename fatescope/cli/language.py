"""Commands of the vision-language model beside the CNNs: `language data`, `train`, `evaluate` and `tiny`."""

from pathlib import Path
from typing import Annotated

import typer

from fatescope import plural
from fatescope.cli import console, project

language = console.group(
    "A vision-language model (LLaVA) beside the CNNs; it needs the extra `language`, and weights in a folder.",
    "fatescope language data binary pairs",
    "fatescope language train llava pairs --out tuned --how lora",
    "fatescope language evaluate tuned pairs",
)

Pairs = Annotated[Path, typer.Argument(metavar="PAIRS", help="The folder that `language data` wrote.")]
Weights = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a LLaVA and its processor.")]
Cells = Annotated[Path, typer.Option(help="The cells that the stage ingest wrote.")]


@language.command("data", epilog=console.examples("fatescope language data binary pairs"))
def write_data(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of dataset.tasks, for example binary.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the pairs and pictures; it must be empty.")],
    params: console.ParamsPath = project.PARAMS,
    cells: Cells = project.CELLS,
    splits: Annotated[Path, typer.Option(help="What the stage split wrote.")] = project.SPLITS,
    scheme: Annotated[str, typer.Option(help="The split to follow: grouped or random.")] = "grouped",
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Width of a pixel, in um; sizes are in px without it.", min=1e-3)
    ] = None,
) -> None:
    """Write questions about labelled cells and their answers, from what is measured of the cells.

    The files have the form that LLaVA's own tools take.
    """
    from fatescope import config
    from pipelines.language import instructions

    written = instructions.write(
        config.load(params), cells, splits, task, out, scheme=scheme, pixel_size_um=pixel_size_um
    )
    print(", ".join(f"{part} {plural.count(len(rows), 'cell')}" for part, rows in written.rows.items()) + f": {out}")


@language.command("tiny", epilog=console.examples("fatescope language tiny pairs --out tiny"))
def build_tiny(
    pairs: Pairs,
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    seed: Annotated[int, typer.Option(help="Seed of its weights.")] = 0,
) -> None:
    """Build a LLaVA of few million parameters with random weights, for the words of PAIRS.

    It shows that everything works where no weights are at hand; train all of it with `language train --how all`.
    """
    from pipelines.language import conversations, tiny

    training = conversations.read(pairs, "train")
    tiny.build(out, conversations.side(training), conversations.texts(training), seed)
    print(f"written to {out}")


@language.command(
    "train",
    epilog=console.examples(
        "fatescope language train llava pairs --out tuned --how projection",
        "fatescope language train llava pairs --out tuned --how lora --minutes 60",
    ),
)
def tune(  # noqa: PLR0913, PLR0917  options of a command
    model: Weights,
    pairs: Pairs,
    out: Annotated[Path, typer.Option(help="Folder for the tuned model.")],
    how: Annotated[str, typer.Option(help="What is trained: projection, lora or all.")] = "lora",
    epochs: Annotated[int, typer.Option(help="Epochs at most.", min=1)] = 3,
    minutes: Annotated[float, typer.Option(help="Minutes at most.", min=0.01)] = 60,
    batch_size: Annotated[int, typer.Option(help="Cells of a step.", min=1)] = 16,
    learning_rate: Annotated[float, typer.Option(help="The highest learning rate.", min=0)] = 2e-4,
    questions: Annotated[int, typer.Option(help="Questions about a cell in a conversation.", min=1, max=7)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the order of cells and questions.")] = 0,
) -> None:
    """Tune MODEL on PAIRS, and write it to a folder like MODEL."""
    from pipelines.language import conversations, llava, tuning

    settings = tuning.Settings(tuning.check_how(how), epochs, minutes, batch_size, learning_rate, seed, questions)
    tuned = tuning.tune(
        llava.load(model),
        conversations.read(pairs, "train"),
        settings,
        lambda epoch, loss: print(f"epoch {epoch + 1}: loss {loss:.3f}", flush=True),
    )
    tuning.save(tuned, out)
    print(f"written to {out}")


@language.command(
    "evaluate",
    epilog=console.examples(
        "fatescope language evaluate tuned pairs",
        "fatescope language evaluate llava pairs --examples 2 --out reports/binary/few_shot.json",
        "fatescope language evaluate endpoint pairs",
    ),
)
def evaluate(  # noqa: PLR0913, PLR0917  options of a command
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Folder of a LLaVA and its processor, or `endpoint` for the one that FATESCOPE_LANGUAGE_URL names: "
            "pictures of the cells are then sent there.",
        ),
    ],
    pairs: Pairs,
    bundle: Annotated[Path | None, typer.Option(help="The CNN. [default: artifacts/TASK/bundle]")] = None,
    cells: Cells = project.CELLS,
    audit: Annotated[Path, typer.Option(help="What the stage audit wrote.")] = Path("reports/audit.json"),
    examples: Annotated[int, typer.Option(help="Training cells of each class to show first (few-shot).", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="The report. [default: reports/TASK/language.json]")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Ask MODEL about the test cells of PAIRS, and report it beside the CNN.

    The cells, metrics, intervals and baselines are those of the CNN. No gate promotes such a model. The stage card puts
    reports/TASK/language.json on the card when it runs again (`dvc repro --force --single-item card@TASK`).
    """
    from pipelines.language import evaluation

    report, path = evaluation.evaluate(
        None if str(model) == "endpoint" else model, pairs, cells, audit, bundle, out, examples=examples
    )
    if as_json:
        console.print_json(report.model_dump(mode="json"))
        return
    print(f"{report.table()}\n\n{report.sentences()}\n\nwritten to {path}")
