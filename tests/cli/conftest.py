"""What the tests of the command share: it is run in this process, as the script runs it."""

import sys
from dataclasses import dataclass

import pytest

from fatescope.cli import app


@dataclass(frozen=True)
class Result:
    """What a command came to."""

    code: int
    output: str
    errors: str


@pytest.fixture
def fatescope(monkeypatch, capsys):
    """Run the command with the given arguments: `fatescope("models", "list")`."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fatescope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else int(code is not None), printed.out, printed.err)

    # What `main` puts into the environment must not stay there.
    for name in app.ENVIRONMENT:
        monkeypatch.setenv(name, app.ENVIRONMENT[name])
    return run
