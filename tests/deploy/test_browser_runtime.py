"""The runtime that the page runs models with: the files are those of the package, and few."""

import gzip

from deploy.fetch_browser_runtime import folder, read_table

MAX_BYTES = 15_000_000
"""Of what a browser unpacks, beside the model."""


def test_the_files_are_those_of_the_package():
    files = read_table((folder() / "README.md").read_text(encoding="utf-8"))
    assert {file.name for file in files} == {path.name for path in folder().iterdir()} - {"README.md", "LICENSE"}
    total = 0
    for file in files:
        raw = (folder() / file.name).read_bytes()
        content = gzip.decompress(raw) if file.name.endswith(".gz") else raw
        assert file.matches(content), file.name
        assert not file.matches(content[:-1])
        total += len(content)
    assert total <= MAX_BYTES
    assert folder().name.removeprefix("onnxruntime-web-") in (folder() / "README.md").read_text(encoding="utf-8")
