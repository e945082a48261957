"""How a native file was acquired: what its header and the acquisition XML in it say, without names of people."""

import hashlib
import math
from dataclasses import dataclass

from fatescope.data.native import directories as tags
from fatescope.data.native import xml
from fatescope.data.native.directories import Directory
from fatescope.data.native.names import run_name
from fatescope.data.native.source import DamageError

MAX_CHANNELS = 12
_MAX_XML = 8 << 20
"""Bytes; files have some 20,000."""
_MAX_RUNS = 1 << 20
"""Bytes of the paths of the files that a merged one came from."""
_MAX_TEXT = 200
_MAX_RUN = 500
"""Characters of the name of a run, of a few merged files. It is kept with every cell."""
_MAX_LIST = 1000
"""Characters of a list of numbers in the XML, which has twelve."""
_USED = ("Imaging", "ChannelInUseIndicators_0_11")
_LAMPS = ("Illumination", "BfLedIndicators_0_11")
_POWERS = ("Illumination", "BfLedIntensityWatts_0_11")
_MAGNIFICATION = ("Imaging", "Magnification")
_WANTED = {_USED, _LAMPS, _POWERS, _MAGNIFICATION}


@dataclass(frozen=True)
class Acquisition:
    """How the objects of a file were acquired."""

    objects: int | None
    """How many objects the file announces; None where it does not."""
    channels: tuple[int, ...]
    """The channels in use, from 1, in the order in which they lie side by side; empty where the file does not say."""
    brightfield: dict[int, float]
    """Channel in use that a brightfield lamp lit → the power of that lamp, W; NaN where the file does not say."""
    magnification: float | None
    instrument: str
    software: str
    runs: tuple[str, ...]
    """Names of the raw files that the objects came from, without folder and ending."""

    @property
    def run(self) -> str:
        """Return one name of the acquisition, shortened where it would be long; empty where the file names none."""
        name = "+".join(self.runs)
        if len(name) <= _MAX_RUN:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        return f"{name[:200]}… ({len(self.runs):,} runs, {digest})"


def read_acquisition(header: Directory) -> Acquisition:
    """Return what the first directory of a file says; raises DamageError where its values cannot be read."""
    texts = _read_xml(header.raw(tags.ACQUISITION_XML, _MAX_XML))
    used = [i + 1 for i, value in enumerate(_numbers(texts.get(_USED, ""))) if value]
    lamps, powers = _numbers(texts.get(_LAMPS, "")), _numbers(texts.get(_POWERS, ""))
    lit = [i + 1 for i, value in enumerate(lamps) if value and i + 1 in used]
    magnification = _numbers(texts.get(_MAGNIFICATION, ""))
    return Acquisition(
        objects=header.number(tags.OBJECTS),
        channels=tuple(used),
        brightfield={channel: powers[channel - 1] if channel <= len(powers) else math.nan for channel in lit},
        magnification=magnification[0] if magnification else None,
        instrument=header.text(tags.INSTRUMENT, _MAX_TEXT),
        software=header.text(tags.SOFTWARE, _MAX_TEXT),
        runs=tuple(
            dict.fromkeys(
                name for path in header.text(tags.ACQUISITION_FILES, _MAX_RUNS).split("|") if (name := run_name(path))
            )
        ),
    )


def _read_xml(raw: bytes) -> dict[tuple[str, ...], str]:
    texts: dict[tuple[str, ...], str] = {}

    def collect(names: tuple[str, ...], piece: str) -> None:
        # The name of the outermost element differs between versions.
        if names[1:] in _WANTED:
            known = texts.get(names[1:], "")
            if len(known) + len(piece) > _MAX_LIST:
                raise DamageError(f"{names[-1]} in its acquisition XML has more than {_MAX_LIST:,} characters")
            texts[names[1:]] = known + piece

    if raw := raw.rstrip(b"\0 \r\n"):
        xml.parse([raw], text=collect)
    return texts


def _numbers(text: str) -> list[float]:
    """Return the first numbers of a list, none where it is no list of numbers."""
    try:
        numbers = [float(part) for part in text.split()[:MAX_CHANNELS]]
    except ValueError:
        return []
    return [number if math.isfinite(number) else 0.0 for number in numbers]
