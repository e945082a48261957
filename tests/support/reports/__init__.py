"""Reports that the code of the commit c6adb21, before they became typed, wrote for the pipeline of the tests."""

from pathlib import Path

AUDIT, METRICS, GATE = (Path(__file__).with_name(f"{name}.json") for name in ("audit", "metrics", "gate"))
