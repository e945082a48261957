"""The pages of docs/reference say what the code says, and no link of the documentation leads nowhere."""

import re
import subprocess
import sys

import pytest

from tests.docs.blocks import pages
from tests.support.project import ROOT

LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
PICTURE = re.compile(r"!\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@pytest.mark.slow
def test_the_generated_pages_are_fresh():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_generated_pages_say_so_in_their_first_line():
    for page in (ROOT / "docs/reference").glob("*.md"):
        assert "docs/generate.py" in page.read_text().partition("\n")[0], page


def test_a_stale_page_is_named(tmp_path):
    page = ROOT / "docs/reference/benchmarks.md"
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate  # noqa: PLC0415  it is no package

        (tmp_path / page.name).write_text("old")
        assert generate.stale_pages({tmp_path / page.name: "new", page: page.read_text()}) == [tmp_path / page.name]
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.mark.parametrize(
    "page", [*pages(), ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text())
    for match in [*LINK.finditer(text), *PICTURE.finditer(text)]:
        path, _, fragment = match["target"].partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {match[0]}"
        if fragment and target.suffix == ".md":
            assert fragment in anchors(target), f"{page}: {match[0]}"


def anchors(page):
    """Return the anchors that forges give the headings of a page."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_index():
    reached, todo = set(), [ROOT / "docs/index.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        links = [match["target"].partition("#")[0] for match in LINK.finditer(page.read_text())]
        found = {(page.parent / link).resolve() for link in links if link.endswith(".md")}
        todo += [each for each in found - reached - set(todo) if each.is_relative_to(ROOT / "docs")]
    assert set((ROOT / "docs").rglob("*.md")) <= reached
