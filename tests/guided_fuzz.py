"""Mutate inputs towards code that none has reached, for everything that reads what others made: `make fuzz GUIDED=1`.

atheris (libFuzzer) follows which lines of the readers an input runs and what they compare it with, so that it gets
behind headers that drawn damage (`tests/fuzz.py`) seldom passes. Each target of `tests/support/targets.py` starts from
whole files that the tests write, from `tests/corpus`, and from what earlier runs reached (`tests/corpus/reached`), and
is mutated for its share of the minutes in a process of its own.

What a reader raises beside the errors that it declares, takes too long for or takes too much memory for is a finding.
Its input is written to `tests/corpus`, the smallest of each place in the code, which each later run of the tests reads:
mend the fault, and commit the input with it. A crash, a hang or an explosion of memory ends the target.

With `--keep`, the inputs of less than MAX_BYTES that reach code which no other does are added to
`tests/corpus/reached`, as libFuzzer merges them.
"""

import argparse
import hashlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests/corpus"
REACHED = CORPUS / "reached"
NAMES = ("images", "native", "analyses", "archives")
"""Of `targets.TARGETS`, which must not be imported before atheris watches."""
WATCHED = ["fatescope", "pipelines.ingestion", "service.inference", "zipfile", "PIL.BmpImagePlugin"]
WATCHED += ["PIL.JpegImagePlugin", "PIL.ImageFile"]
MAX_BYTES = 4_000
MAX_SECONDS = 5.0
"""Processor time that an input may take."""
HANGS, EXPLODES = 60, 2_000
"""Seconds, and memory of the process, MB, at which libFuzzer ends a target."""
FOUND, NO_ATHERIS = 1, 2
_PNG = b"\x89PNG\r\n\x1a\n"


class Findings:
    """Inputs that a target fails at: in `folder`, the smallest of each place in the code."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._smallest: dict[str, Path] = {}

    def check(self, target, raw: bytes) -> None:
        """Read an input; keep it where the target fails at it."""
        started, most = time.process_time(), _memory_mb()
        try:
            target.read(raw)
        except Exception as error:  # noqa: BLE001 - whatever the reader does not declare
            frames = traceback.extract_tb(error.__traceback__)
            last = [frame for frame in frames if frame.filename.startswith(f"{ROOT}/")][-1]
            self.keep(f"{type(error).__name__} at {last.filename}:{last.lineno}", raw, repr(error))
        if (seconds := time.process_time() - started) > MAX_SECONDS:
            self.keep("time", raw, f"{seconds:.1f} s")
        if (grown := _memory_mb() - most) > target.most_mb:
            self.keep("memory", raw, f"{grown:.0f} MB")

    def keep(self, what: str, raw: bytes, detail: str) -> None:
        """Write an input to the folder unless there is one for the same that is not larger."""
        known = self._smallest.get(what)
        if known:
            if known.stat().st_size <= len(raw):
                return
            known.unlink()
        self._smallest[what] = path = self._folder / hashlib.sha256(raw).hexdigest()[:16]
        path.write_bytes(raw)
        print(f"FINDING {path.name}: {what}: {detail}", flush=True)


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def repair(raw: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks should have, so that their damage is decoded; others as they are.

    What follows a chunk that is longer than the file stays as it is.
    """
    if not raw.startswith(_PNG):
        return raw
    repaired, at = bytearray(raw), len(_PNG)
    while at + 12 <= len(repaired):
        end = at + 8 + int.from_bytes(repaired[at : at + 4])
        if end + 4 > len(repaired):
            break
        repaired[end : end + 4] = zlib.crc32(repaired[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(repaired)


def mutate_target(name: str, findings: Path, options: list[str]) -> None:
    """Run libFuzzer on a target with its `options`; ends the process."""
    import atheris  # noqa: PLC0415 - only where there is one

    with atheris.instrument_imports(include=WATCHED):
        from tests.support.targets import TARGETS  # noqa: PLC0415 - after atheris watches
    found, target = Findings(findings), TARGETS[name]

    def mutate(raw: bytes, longest: int, seed: int) -> bytes:
        mutated = atheris.Mutate(raw, longest)
        return repair(mutated) if seed % 4 else mutated

    # To merge, libFuzzer runs itself again, as its first argument.
    again = findings.parent / "again"
    again.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.guided_fuzz --mutate {name} "{findings}" "$@"\n')
    again.chmod(0o700)
    atheris.Setup(
        [str(again), *options],
        lambda raw: found.check(target, raw),
        custom_mutator=mutate if name == "images" else None,
    )
    atheris.Fuzz()


def fill(name: str, folder: Path) -> None:
    """Put what a target starts from into `folder`: whole inputs, those that failed, those that were reached."""
    from tests.support.targets import TARGETS  # noqa: PLC0415 - not where atheris watches

    target = TARGETS[name]
    for title, raw in target.whole.items():
        (folder / f"whole-{title.replace(' ', '-')}").write_bytes(raw)
    for kept in (CORPUS / target.kind, REACHED / name):
        for path in kept.iterdir() if kept.is_dir() else []:
            if path.stat().st_size <= MAX_BYTES:
                shutil.copy(path, folder / path.name)


def run(name: str, seconds: float, seed: int | None, *, keep: bool) -> bool:
    """Mutate the inputs of a target for so many seconds; return whether something failed."""
    from tests.support.targets import TARGETS  # noqa: PLC0415 - not where atheris watches

    with tempfile.TemporaryDirectory() as temporary:
        start, mutated, findings, crashes = folders = [
            Path(temporary) / part for part in ("start", "mutated", "findings", "crashes")
        ]
        for folder in (*folders, CORPUS / TARGETS[name].kind, REACHED / name):
            folder.mkdir(parents=True, exist_ok=True)
        fill(name, start)
        limits = f"-timeout={HANGS}", f"-rss_limit_mb={EXPLODES}", f"-max_len={MAX_BYTES}"
        # From a shell of its own: libFuzzer takes the peak of the memory of the process that starts it for its own.
        command = ["sh", "-c", '"$@"; exit $?', "sh"]
        command += [sys.executable, "-m", "tests.guided_fuzz", "--mutate", name, str(findings), *limits]
        command += [f"-artifact_prefix={crashes}/"]
        until = [f"-max_total_time={max(1, round(seconds))}", "-print_final_stats=1"]
        until += [f"-seed={seed}"] if seed is not None else []
        try:
            code = subprocess.run([*command, *until, mutated, start], cwd=ROOT, check=False).returncode
        finally:
            failed = [*findings.iterdir(), *crashes.iterdir()]
            for path in failed:
                shutil.copy(path, CORPUS / TARGETS[name].kind / f"guided-{name}-{path.name[:16]}")
        if keep and not code:
            # What is in the first folder counts as reached; what reaches other code is added. How often does not count.
            held = set(start.iterdir())
            subprocess.run([*command, "-merge=1", "-use_counters=0", start, mutated], cwd=ROOT, check=True)
            for path in set(start.iterdir()) - held:
                shutil.copy(path, REACHED / name / path.name[:12])
        return bool(code or failed)


def main() -> int:
    """Mutate, and return the exit code: 1 if an input has failed, 2 without atheris."""
    if sys.argv[1:2] == ["--mutate"]:
        name, findings, *options = sys.argv[2:]
        mutate_target(name, Path(findings), options)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=5, help="how long to mutate, all targets together [default: 5]"
    )
    parser.add_argument("--seed", type=int, help="of libFuzzer")
    parser.add_argument("--target", choices=NAMES, action="append", help="one of several [default: all]")
    parser.add_argument("--keep", action="store_true", help="add what reaches new code to tests/corpus/reached")
    arguments = parser.parse_args()
    if find_spec("atheris") is None:
        print(
            "atheris is not installed; pip install -c constraints.txt -e '.[fuzz]' (Linux on x86-64)", file=sys.stderr
        )
        return NO_ATHERIS
    names = arguments.target or NAMES
    seconds = 60 * arguments.minutes / len(names)
    failed = [name for name in names if run(name, seconds, arguments.seed, keep=arguments.keep)]
    print(f"failed: {', '.join(failed)}; see tests/corpus" if failed else "nothing failed")
    return FOUND if failed else 0


if __name__ == "__main__":
    sys.exit(main())
