"""Read objects of a native file with python-bioformats, for `benchmarks.native_peer`, in an interpreter that has it.

`PYTHON benchmarks/peers/bio_formats.py FILE PIXELS CASES`: for each of CASES (JSON: a list of channels from 0, whether
with masks, how many objects) reads them of each object, after WARM of them, and prints as JSON the seconds that they
took, of the thread that reads and by the clock; those to open the file, and the versions. The virtual machine of Java
runs before any clock does. Every EACH-th object goes to PIXELS (.npz) as `CASE-POSITION`, its channels and then its
masks. Exit code 3 means that python-bioformats cannot be imported.
"""

import json
import sys
import time

WARM = 200
EACH = 100
NOT_THERE = 3

try:
    import bioformats
    import javabridge
    import numpy as np
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(NOT_THERE)


def silence() -> None:
    """Log errors alone, as a program that reads many files would."""
    root = javabridge.static_call(
        "org/slf4j/LoggerFactory", "getLogger", "(Ljava/lang/String;)Lorg/slf4j/Logger;", "ROOT"
    )
    level = javabridge.get_static_field("ch/qos/logback/classic/Level", "ERROR", "Lch/qos/logback/classic/Level;")
    javabridge.call(root, "setLevel", "(Lch/qos/logback/classic/Level;)V", level)


def read(reader: bioformats.ImageReader, position: int, channels: list[int], masks: bool) -> list[np.ndarray]:
    """Return the channels of an object, and their masks: a series is an image, or the mask that follows it."""
    series = range(2 * position, 2 * position + 1 + masks)
    return [reader.read(series=one, c=channel, rescale=False) for one in series for channel in channels]


def main(path: str, pixels: str, cases: list[tuple[list[int], bool, int]]) -> None:
    """Read, and print what it took."""
    start, kept, took = time.perf_counter(), {}, []
    reader = bioformats.ImageReader(path)
    opened = time.perf_counter() - start
    for case, (channels, masks, objects) in enumerate(cases):
        for i in range(WARM):
            read(reader, i, channels, masks)
        thread, clock = time.thread_time(), time.perf_counter()
        for i in range(objects):
            planes = read(reader, i, channels, masks)
            if i % EACH == 0:
                kept[f"{case}-{i}"] = np.stack(planes)
        took.append((time.thread_time() - thread, time.perf_counter() - clock))
    np.savez(pixels, **kept)
    version = javabridge.get_static_field("loci/formats/FormatTools", "VERSION", "Ljava/lang/String;")
    java = javabridge.static_call(
        "java/lang/System", "getProperty", "(Ljava/lang/String;)Ljava/lang/String;", "java.version"
    )
    print(json.dumps({"took": took, "opened": opened, "bioformats": version, "java": java}))


if __name__ == "__main__":
    javabridge.start_vm(class_path=bioformats.JARS, run_headless=True)
    silence()
    try:
        main(*sys.argv[1:3], json.loads(sys.argv[3]))
    finally:
        javabridge.kill_vm()
