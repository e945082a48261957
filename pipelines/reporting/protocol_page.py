"""The change-control protocol as Markdown: a page of its own to print and sign, and a section of the model card."""

import jinja2

from pipelines.registry.protocol import Protocol
from pipelines.reporting.model_card import TEMPLATES, within_cell

SIGNATURES = """
## Approved

| role | name | date | signature |
|---|---|---|---|
| responsible for the models | | | |
| responsible for quality | | | |
"""


def render(protocol: Protocol) -> str:
    """Return the page."""
    about = f", version {protocol.version}" if protocol.version else ""
    return (
        f"# Change-control protocol of fatescope-{protocol.task}{about}\n\n"
        "> **For research use only.** It follows the outline of the FDA's predetermined change control plans, and is "
        "no submission to anyone.\n\n"
        f"Made from `params.yaml` by `fatescope models protocol {protocol.task}`. Classes: "
        f"{', '.join(protocol.classes)}.\n\n"
        f"{render_sections(protocol, '##')}{SIGNATURES}"
    )


def render_sections(protocol: Protocol, mark: str) -> str:
    """Return its sections under headings that begin with `mark`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  this is Markdown
        finalize=within_cell,
    )  # fmt: skip
    return environment.get_template("protocol.md").render(protocol=protocol, mark=mark)
