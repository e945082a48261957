"""Which sample the files of an upload belong to: their zip and their folder, without what all of them share.

The page shows the same samples, `service/page/filenames.js`; `tests/page/samples.json` holds both to the same answers.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

from fatescope.data.archives import SUFFIX

_IMAGE = re.compile(r"\.(?:tiff?|png|bmp|jpe?g)$", re.IGNORECASE)


def assign_samples(files: Sequence[tuple[str, str]]) -> list[str]:
    """Return the sample of each file, empty for one without a zip or folder; `files` are (zip or empty, path).

    A zip is a folder of its name around its files. Where files come from several places, the folders that all files of
    a zip share say nothing more; nor do those that all files of the upload share, of which the last one stays.
    """
    zips = [archive for archive, _ in files]
    roots = len(set(zips))
    chosen = [bool(_IMAGE.search(path)) for _, path in files]
    # Other files, such as notes beside the folders, do not decide what the images share.
    counted = chosen if any(chosen) else [True] * len(files)
    folders = [path.split("/")[:-1] for _, path in files]
    if roots > 1:
        inside: dict[str, list[list[str]]] = {}
        for parts, archive, counts in zip(folders, zips, counted, strict=True):
            if archive and counts:
                inside.setdefault(archive, []).append(parts)
        common = {archive: _shared(its) for archive, its in inside.items()}
        folders = [parts[common.get(archive, 0) :] for parts, archive in zip(folders, zips, strict=True)]
    folders = [[archive, *parts] if archive else parts for archive, parts in zip(zips, folders, strict=True)]
    shared = _shared([parts[:-1] for parts, counts in zip(folders, counted, strict=True) if counts])
    return ["/".join(parts[shared:]) or (parts[-1] if parts else "") for parts in folders]


def name_zips(zips: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return what the zips of an upload are called as samples: without their suffix, and no two alike.

    `others` are the paths of files that come beside the zips, whose folders keep their names.
    """
    taken = {path.split("/")[0] for path in others}
    names = []
    for archive in zips:
        stem = archive[: -len(SUFFIX)] if archive.lower().endswith(SUFFIX) else archive
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem} ({number})"
        taken.add(name)
        names.append(name)
    return names


def _shared(folders: Sequence[list[str]]) -> int:
    """Return how many leading folders all of `folders` share."""
    if not folders:
        return 0
    # What the first and the last in order share, all between them share too.
    pairs = zip(min(folders), max(folders), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
