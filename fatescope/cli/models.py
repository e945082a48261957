"""`fatescope models`: the versions in the MLflow registry, each command in the module of what it is about."""

from fatescope.cli import bundles, champions, comparison, console, verification

models = console.group(
    "Versions of models in the MLflow registry.",
    "fatescope models list",
    "fatescope models pull binary --out bundles/binary",
)

models.command(
    "list",
    epilog=console.examples("fatescope models list", "fatescope models list binary", "fatescope models list --json"),
)(comparison.list_versions)
models.command(
    epilog=console.examples(
        "fatescope models compare binary 1 champion",
        "fatescope models compare binary champion challenger --json",
        "fatescope models compare --live binary",
    )
)(comparison.compare)
models.command(
    epilog=console.examples(
        "fatescope models promote binary",
        "fatescope models promote binary 2 --reason 'first model on the new instrument'",
    )
)(champions.promote)
models.command(
    epilog=console.examples(
        "fatescope models protocol binary", "fatescope models protocol binary champion --out protocol.md"
    )
)(comparison.protocol)
models.command(epilog=console.examples("fatescope models rollback binary --reason 'calls debris astrocyte'"))(
    champions.rollback
)
models.command(
    epilog=console.examples(
        "fatescope models history binary", "fatescope models history binary --at '2026-11-26 14:30' --json"
    )
)(champions.history)
models.command(
    epilog=console.examples(
        "fatescope models pull binary --out bundles/binary", "fatescope models pull binary 3 --out bundles/binary"
    )
)(bundles.pull)
models.command(epilog=console.examples("fatescope models add fatescope-my-cells.zip", "fatescope models add taught"))(
    bundles.add
)
models.command(
    epilog=console.examples("fatescope models sign binary 3", "fatescope models sign binary champion --json")
)(bundles.sign)
models.command(epilog=console.examples("fatescope models repair", "fatescope models repair --json"))(bundles.repair)
models.command(
    epilog=console.examples(
        "fatescope models verify binary 3",
        "fatescope models verify binary champion --here",
        "fatescope models verify binary 3 --data /mnt/cells --repository https://example.org/fatescope.git --json",
    )
)(verification.verify)
