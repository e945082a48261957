#!/usr/bin/env python
"""Fetch the files of ONNX Runtime Web that the page runs models with, as the README.md in their folder names them.

Only npm is asked, and what it sends is kept if its hashes are those of the table. To raise the version, rename the
folder, write the new version and hashes into its README.md, and run `make browser-runtime`.
"""

import gzip
import hashlib
import io
import re
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "service" / "page" / "private"
_PACKAGE = "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{}.tgz"
_ROW = re.compile(r"^\| `(\S+)` \| `(\S+)`.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)
_TIMEOUT_S = 60


@dataclass(frozen=True)
class RuntimeFile:
    """A row of the table."""

    name: str
    """Of the file here; one that ends in `.gz` is packed."""
    source: str
    """Of the file in the package."""
    sha256: str
    """Of the file in the package."""

    def matches(self, content: bytes) -> bool:
        """Return whether this is the content of the file in the package."""
        return hashlib.sha256(content).hexdigest() == self.sha256


def folder() -> Path:
    """Return the folder of the runtime; its name ends in the version."""
    [found] = PAGE.glob("onnxruntime-web-*")
    return found


def read_table(readme: str) -> list[RuntimeFile]:
    """Return the files that a README.md lists."""
    return [RuntimeFile(*row) for row in _ROW.findall(readme)]


def main() -> None:
    """Replace the files in the folder; exits with a message where one has another hash."""
    target = folder()
    address = _PACKAGE.format(target.name.rpartition("-")[2])
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:  # noqa: S310 - https, as above
        raw = response.read()
    for file in read_table((target / "README.md").read_text(encoding="utf-8")):
        with tarfile.open(fileobj=io.BytesIO(raw)) as package:
            member = package.extractfile(f"package/{file.source}")
            content = member.read() if member else b""
        if not file.matches(content):
            sys.exit(f"{address}: {file.source} has another hash than {target / 'README.md'} says; nothing was changed")
        packed = gzip.compress(content, 9, mtime=0) if file.name.endswith(".gz") else content
        (target / file.name).write_bytes(packed)
        print(f"{target / file.name}: {len(packed):,} bytes")


if __name__ == "__main__":
    main()
