#!/usr/bin/env python
"""Write the digests of the images of others into the files of this folder: `python deploy/pin_images.py`.

A tag can be moved to another image, a digest cannot. Each tag stays in its file, before the digest, for people; run it
again after a change of a tag, or to follow one that was moved. Images that we build ourselves have no digest here.

Asks the registry of each image by the API of OCI (distribution-spec 1.1), without an account: for the manifest of the
tag, which for several processors is their index. `--registry` asks another one instead, such as a mirror.
"""

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
IMAGE = re.compile(
    r"(?m)^(?P<before>[ \t]*(?:- )?image:[ \t]*|ARG BASE=)(?P<name>[a-z0-9][\w./-]*(?::\d+/[\w./-]+)?)"
    r":(?P<tag>[\w][\w.-]*)(?:@sha256:[0-9a-f]{64})?[ \t]*$"
)
"""A line that names an image, in the files of Compose and Kubernetes and in a Dockerfile."""
OURS = ("fatescope",)
"""Images that are built from this folder."""
HUB = "registry-1.docker.io"
ACCEPTED = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)
TIMEOUT_S = 30


class RegistryError(Exception):
    """A registry did not give what it was asked for."""


def files(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` that may name images."""
    yield from sorted(
        path for path in folder.rglob("*") if path.name == "Dockerfile" or path.suffix in {".yaml", ".yml"}
    )


def pin(text: str, find: "DigestFinder") -> str:
    """Return `text` with the digest that `find` gives behind each tag of an image of others."""

    def add(match: re.Match[str]) -> str:
        name, tag = match["name"], match["tag"]
        if name in OURS:
            return match[0]
        return f"{match['before']}{name}:{tag}@{find(name, tag)}"

    return IMAGE.sub(add, text)


class DigestFinder:
    """Asks registries for digests, each image once."""

    def __init__(self, registry: str | None = None) -> None:
        self._registry = registry
        self._known: dict[tuple[str, str], str] = {}

    def __call__(self, name: str, tag: str) -> str:
        """Return the digest of an image, such as `sha256:…`; raises RegistryError where its registry does not say."""
        if (name, tag) not in self._known:
            host, path = locate(name)
            address = self._registry or f"https://{host}"
            self._known[name, tag] = fetch_digest(f"{address.rstrip('/')}/v2/{path}/manifests/{tag}")
        return self._known[name, tag]


def locate(name: str) -> tuple[str, str]:
    """Return the host of the registry of an image, and the image's path there, as Docker reads a name."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return HUB, name if slash else f"library/{name}"


def fetch_digest(address: str) -> str:
    """Return the digest of the manifest at `address`, computed from its bytes."""
    try:
        raw, claimed = _get(address, {"Accept": ACCEPTED})
    except urllib.error.HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code != 401 or not challenge.lower().startswith("bearer "):
            raise RegistryError(f"{address}: answered {error.code}; is the tag right?") from error
        try:
            token = _fetch_token(challenge)
            raw, claimed = _get(address, {"Accept": ACCEPTED, "Authorization": f"Bearer {token}"})
        except urllib.error.HTTPError as again:
            raise RegistryError(f"{address}: answered {again.code}; is the tag right?") from again
    except OSError as error:
        raise RegistryError(f"{address}: no answer ({error}); name a mirror with --registry") from error
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if claimed is not None and claimed != digest:
        raise RegistryError(f"{address}: the manifest has {digest}, and the registry says {claimed}")
    return digest


def _fetch_token(challenge: str) -> str:
    """Return the token that a registry gives to anybody, from where its challenge says."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if urllib.parse.urlsplit(realm).scheme not in {"http", "https"}:
        raise RegistryError(f"the registry asks for a token from '{realm}', which is no address")
    raw, _ = _get(f"{realm}?{urllib.parse.urlencode(fields)}", {})
    content = json.loads(raw)
    return str(content.get("token") or content["access_token"])


def _get(address: str, headers: dict[str, str]) -> tuple[bytes, str | None]:
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  https, or the registry that was named
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310  see above
        return response.read(), response.headers.get("Docker-Content-Digest")


def main(arguments: list[str] | None = None) -> int:
    """Pin the images of all files; write none where one of them cannot be pinned."""
    parser = argparse.ArgumentParser(description="Write the digests of images into the files of deploy/.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the files")
    parser.add_argument("--registry", help="the address of a registry to ask instead of those of the names")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a digest is missing or old")
    given = parser.parse_args(arguments)
    find = DigestFinder(given.registry)
    try:
        changed = {
            path: text for path in files(given.folder) if (text := pin(before := path.read_text(), find)) != before
        }
    except RegistryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, text in changed.items():
        print(f"{path}: {'not current' if given.check else 'pinned'}")
        if not given.check:
            path.write_text(text)
    return int(given.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
