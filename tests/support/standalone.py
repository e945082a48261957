"""Start gateway or runner as a server of its own, as a manifest does."""

import sys

from tests.support.bundles import EXACT
from tests.support.project import ROOT
from tests.support.servers import ended

SECRET = "0123456789abcdef" * 4


def start(folder, part, port, bundles, **environment):
    """Run a part as a manifest does."""
    folder.mkdir()
    environment = {
        "FATESCOPE_BUNDLES": str(bundles),
        "FATESCOPE_RECORDS": str(folder / "records"),
        "FATESCOPE_RUNNER_SECRET": SECRET,
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": str(ROOT),
        **EXACT,
        **environment,
    }
    command = [sys.executable, "-m", "service.standalone", part, "--port", str(port)]
    return ended(command, folder, environment)
