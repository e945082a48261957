"""Made-up native files of Amnis instruments: .rif and .cif with any channels, with and without masks, and .daf."""

import struct

import numpy as np

NAME_OF_A_PERSON = "J. Q. Operator"
FOLDER = "D:\\ImageStream data\\J. Q. Operator\\2016"
"""What a file must not give away."""
_CODES = {1: "B", 3: "H", 4: "I", 12: "d"}


def compress_image(pixels):
    """Return (H, W) pixels as a stream of nibbles (30817)."""
    return pack_nibbles(as_nibbles(second_differences(pixels)))


def second_differences(pixels):
    """Return what is added to the pixels above and to the left for each of (H, W) pixels, as (H * W,)."""
    padded = np.pad(pixels.astype(np.int64), ((1, 0), (1, 0)))
    return np.diff(np.diff(padded, axis=0), axis=1).ravel()


def as_nibbles(numbers):
    """Return numbers in three bits a nibble, the least significant first."""
    lengths = np.ones(len(numbers), int)
    for bits in range(3, 31, 3):
        lengths += (numbers < -(1 << bits - 1)) | (numbers >= 1 << bits - 1)
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(numbers)), lengths)
    place = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    return (numbers[owner] >> 3 * place & 7 | (place + 1 < lengths[owner]) << 3).astype(np.uint8)


def pack_nibbles(nibbles):
    """Return nibbles as bytes, the low one first."""
    nibbles = np.append(nibbles, np.zeros(len(nibbles) % 2, np.uint8))
    return (nibbles[::2] | nibbles[1::2] << 4).tobytes()


def compress_mask(mask):
    """Return an (H, W) mask as pairs of a value and a run (30818)."""
    flat, pairs = mask.ravel(), bytearray()
    starts = np.flatnonzero(np.diff(flat, prepend=256 if flat[0] else -1))
    for start, stop in zip(starts, [*starts[1:], len(flat)], strict=True):
        for left in range(stop - start, 0, -256):
            pairs += bytes([flat[start], min(left, 256) - 1])
    return bytes(pairs)


def directory(at, entries, data, behind_it, following=None):
    """Return a directory at the offset `at` with its `data` and then its values behind it, as instruments write them.

    Entries are tag → (type, values or bytes); `behind_it` are the directories that come after it, the first of them
    at `following`. All offsets are modulo 4 GiB.
    """
    if data:
        entries = entries | {273: (4, [0])}
        start = at + 2 + 12 * len(entries) + 4
        entries[273] = (4, [start % 2**32])
    behind, table, values = at + 2 + 12 * len(entries) + 4 + len(data), b"", b""
    for tag, (code, content) in sorted(entries.items()):
        raw = content if isinstance(content, bytes) else struct.pack(f"<{len(content)}{_CODES[code]}", *content)
        inside = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", (behind + len(values)) % 2**32)
        table += struct.pack("<HHI", tag, code, len(content)) + inside
        values += raw if len(raw) > 4 else b""
    following = (following or behind + len(values)) % 2**32 if behind_it else 0
    return struct.pack("<H", len(entries)) + table + struct.pack("<I", following) + data + values


def acquisition_xml(channels=(1,), brightfield=(1,), power=0.5, magnification=40):
    """Return the XML of an acquisition."""
    used = " ".join(str(int(i in channels)) for i in range(1, 13))
    lamps = " ".join(str(int(i in brightfield)) for i in range(1, 13))
    powers = " ".join(str(power if i in brightfield else 0) for i in range(1, 13))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><setup><Illumination><BfLedIndicators_0_11>{lamps} '
        f"</BfLedIndicators_0_11><BfLedIntensityWatts_0_11>{powers} </BfLedIntensityWatts_0_11></Illumination>"
        f"<Imaging><ObjectsToAcquire>5000</ObjectsToAcquire><Magnification>{magnification}</Magnification>"
        f"<ChannelInUseIndicators_0_11>{used} </ChannelInUseIndicators_0_11>"
        f"<Operator>{NAME_OF_A_PERSON}</Operator></Imaging></setup>"
    ).encode()


def header(objects, runs=("run1",), xml=None, extra=None):
    """Return the entries of the first directory."""
    paths = "|".join(f"{FOLDER}\\{run}.rif" for run in runs).encode()
    entries = {256: (4, [1]), 257: (4, [1]), 258: (3, [16]), 259: (3, [1]), 33002: (3, [1])}
    entries |= {33005: (2, NAME_OF_A_PERSON.encode() + b"\0"), 33006: (2, b"IS100-Lab\0"), 33018: (4, [objects])}
    entries |= {33027: (2, xml or acquisition_xml()), 33029: (4, [int(len(runs) > 1)]), 33066: (2, b"6.0.354.0\0")}
    entries |= {33026: (2, paths + b"\0")} if runs else {}
    return entries | (extra or {})


def image(number, pixels, means, extra=None):
    """Return the entries of an image directory, without where its data are, and the data."""
    height, width = pixels.shape
    stream, channels = compress_image(pixels), len(means)
    entries = {254: (1, [2, 0]), 256: (4, [width]), 257: (4, [height]), 258: (3, [16]), 259: (3, [30817])}
    entries |= {
        266: (3, [0]),
        277: (3, [1]),
        279: (4, [len(stream)]),
        282: (4, [1, 0]),
        306: (2, b"5/2/2016 2:26:24 PM\0"),
    }
    entries |= {33002: (3, [2]), 33003: (4, [number]), 33012: (12, [22.5]), 33016: (4, [1000 + 7 * number])}
    entries |= {33017: (4, [10 + number]), 33024: (4, [100 + 3 * number]), 33052: (12, means)}
    entries |= {33053: (12, [0.5] * channels), 33054: (12, [0.0] * channels)}
    return entries | (extra or {}), stream


def mask(pixels):
    """Return the entries of a mask directory, and its data."""
    height, width = pixels.shape
    stream = compress_mask(pixels)
    entries = {254: (1, [6, 0]), 256: (4, [width]), 257: (4, [height]), 258: (3, [8]), 259: (3, [30818])}
    return entries | {277: (1, [1, 0]), 279: (4, [len(stream)]), 33002: (3, [3])}, stream


def draw_objects(count, channels=(1,), seed=0, size=(40, 44), noise=3.0):
    """Return `count` objects of (C, H, W) pixels, of slightly different sizes, and their masks."""
    rng, objects = np.random.default_rng(seed), []
    for _ in range(count):
        height, width = (side + int(rng.integers(0, 6)) for side in size)
        y, x = np.mgrid[:height, :width]
        inside = np.hypot(y - height / 2, x - width / 2) < rng.uniform(8, 14)
        levels = np.array([200 + 30 * channel for channel in channels])[:, None, None]
        pixels = np.clip(rng.normal(levels, noise, (len(channels), height, width)) - 60 * inside, 0, 4095)
        objects.append((pixels.astype(np.uint16), np.repeat(inside[None].astype(np.uint8), len(channels), 0)))
    return objects


def parts(objects, masks=True, numbers=None, **of_header):
    """Return the directories of a file as (entries, data), the header first."""
    result = [(header(len(objects), **of_header), b"")]
    for i, (pixels, covered) in enumerate(objects):
        means = [float(np.median(channel)) for channel in pixels]
        result.append(image(numbers[i] if numbers else i, np.concatenate(list(pixels), axis=1), means))
        if masks:
            result.append(mask(np.concatenate(list(covered), axis=1)))
    return result


def pack(directories):
    """Return a file of `directories`."""
    raw = bytearray(b"II*\0" + struct.pack("<I", 8))
    for i, (entries, data) in enumerate(directories):
        raw += directory(len(raw), entries, data, len(directories) - 1 - i)
    return bytes(raw)


def write_beyond(path, directories, begin):
    """Write a file whose first object begins at `begin`, which may be beyond 4 GiB; the file has a hole before it."""
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 8))
        file.write(directory(8, *directories[0], 1, begin))
        file.seek(begin)
        for i, (entries, data) in enumerate(directories[1:]):
            file.write(directory(file.tell(), entries, data, len(directories) - 2 - i))
    return path


def native(objects, masks=True, numbers=None, **of_header):
    """Return a .cif with `objects`, or a .rif without `masks`."""
    return pack(parts(objects, masks, numbers, **of_header))


def _objects(numbers):
    return "".join(f'<ob O="{number}" />' for number in numbers)


def records(offsets, features=2, channels=6):
    """Return what comes behind the XML of a .daf of a .cif whose objects are at `offsets`, by their numbers."""
    raw = b"\n\0\x1e" + struct.pack("<III", 1, features, len(offsets))
    raw += b"".join(struct.pack(f"<I{len(offsets)}d", i, *offsets.values()) for i in range(features))
    raw += struct.pack("<I", len(offsets))
    for number, offset in offsets.items():
        raw += struct.pack("<IQQQ", number, offset, offset + 9, 8) + bytes(48)
        raw += 4 * struct.pack(f"<I{channels}d", channels, *[0.5] * channels)
    return raw


def analysis(cif, objects=None, listed=None, gated=None, binary=b""):
    """Return a .daf of `cif`; `listed` are population → object numbers, `gated` population → (first, last)."""
    # What its checksum is of is not known.
    facts = ' checksum="7591110"' + (f' objcount="{objects}"' if objects is not None else "")
    regions = "".join(
        f'<Region type="line" label="{name}" cx="1"><axy x="{low}" y="0.5" /><axy x="{high}" y="0.5" /></Region>'
        for name, (low, high) in (gated or {}).items()
    )
    populations = "".join(
        f'<Pop name="{name}" type="G" base="All" region="{name}" fx="Object Number" />' for name in gated or {}
    )
    populations += "".join(
        f'<Pop name="{name}" type="T" base="All">{_objects(numbers)}</Pop>' for name, numbers in (listed or {}).items()
    )
    return (
        '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<Assay date="25/06/2020" IDEAS_version="6.2.183.0" '
        f'binaryfeatures="{bool(binary)}"><SampleName>{NAME_OF_A_PERSON}</SampleName>'
        f'<SOD file="{FOLDER}\\{cif}"{facts}><Images><image name="BF" physicalChannel="3" /></Images>'
        f'<Regions>{regions}</Regions><Pops><Pop name="All" type="B" base="" /><Pop name="Round" type="G" base="All" '
        f'region="Round" fx="Circularity_M04" />{populations}</Pops></SOD></Assay>'
    ).encode() + binary
