"""The README, the changelog and the citation: their size, and what they must say."""

import re
import tomllib

from ruamel.yaml import YAML

from tests.support.project import ROOT

README = ROOT / "README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_the_first_screen_says_what_the_default_model_is_not():
    screen = " ".join(README.read_text().splitlines()[:25]).lower()
    assert "research use only" in screen
    assert "simulated cells" in screen


def test_the_changelog_has_this_version_and_what_is_to_come():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert PROJECT["version"] in headings


def test_the_citation_is_valid():
    # https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md
    cited = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    for reference in cited["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        for author in reference["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
