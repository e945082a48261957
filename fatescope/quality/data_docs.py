"""Make Great Expectations' Data Docs readable where there is no internet.

Its pages take their style, and the list on the first page, from a dozen external hosts, which then also learn who reads
them. Here the pages keep their content, ask no other host for anything, and begin with a page of our own.
"""

import html
import re
from pathlib import Path

from fatescope import plural
from fatescope.quality.results import CheckResult

_EXTERNAL = re.compile(r'<link[^>]*href="https?://[^>]*>|<script[^>]*src="https?://[^>]*>\s*</script>', re.DOTALL)
_STYLE = """<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent); }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1, h2, h3, h4, h5, h6 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; } h1 { font-size: 1.5rem; }
table { border-collapse: collapse; width: 100%; } .table { margin-bottom: .8rem; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .6rem; text-align: left; vertical-align: top; }
.fa-check-circle::before, .pass::before { color: #1a7f37; content: "\\2713"; font-style: normal; font-weight: bold; }
.fa-times::before, .fail::before { color: #c0392b; content: "\\2717"; font-style: normal; font-weight: bold; }
.fa-exclamation-triangle::before, .warn::before { color: #b7791f; content: "!"; font-style: normal; font-weight: bold; }
footer, form, img, .ge-navigation-sidebar-container, [data-toggle=collapse] { display: none; }
</style>"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Validation of the cells</title>{style}</head><body>
<h1>Validation of the cells</h1>
<p>{verdict}</p>
<table><thead><tr><th></th><th>What is expected</th><th>Table</th><th>Found</th><th>Where</th></tr></thead>
<tbody>{rows}</tbody></table>
<h2>Details by Great Expectations</h2>{note}<ul>{links}</ul>
</body></html>
"""


def finish(docs: Path, results: list[CheckResult], note: str = "") -> None:
    """Style every page below `docs`, and write `index.html`, which lists `results` and leads to the others.

    `note` says what Great Expectations looked at, where that is not everything.
    """
    pages = [page for page in docs.rglob("*.html") if page.name != "index.html"]
    for page in pages:
        text = _EXTERNAL.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text.replace("</head>", f"{_STYLE}</head>", 1), encoding="utf-8")
    failed = [result for result in results if not result["passed"]]
    critical = sum(result["severity"] == "critical" for result in failed)
    held = len(results) - len(failed)
    verdict = f"{held} of {plural.count(len(results), 'expectation')} {plural.agree(held, 'holds', 'hold')}"
    stops = plural.agree(critical, "stops", "stop")
    verdict += f"; {critical} failed and {stops} the pipeline" if critical else "; nothing stops the pipeline"
    verdict += f", {plural.count(len(failed) - critical, 'warning')}" if len(failed) > critical else ""
    links = sorted((page.relative_to(docs) for page in pages), key=lambda path: (path.parts[0], path.name))
    content = _PAGE.format(
        style=_STYLE,
        verdict=f"{verdict}.",
        rows="".join(map(_row, sorted(results, key=lambda result: (result["passed"], result["severity"])))),
        note=f"<p>{html.escape(note)}</p>" if note else "",
        links="".join(f'<li><a href="{path}">{path.parts[0]}: {path.stem}</a></li>' for path in links),
    )
    (docs / "index.html").write_text(content, encoding="utf-8")


def _row(result: CheckResult) -> str:
    kind = "pass" if result["passed"] else "fail" if result["severity"] == "critical" else "warn"
    mark = f'<span class="{kind}" role="img" aria-label="{kind}"></span>'
    cells = (result["expectation"], result["table"], result["found"], "; ".join(result["where"]))
    return f"<tr><td>{mark}</td>{''.join(f'<td>{html.escape(text)}</td>' for text in cells)}</tr>"
