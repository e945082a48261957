"""How commands are run, for whom and where."""

import getpass
import io
import os
import pwd
import sys

import pytest
import typer

from fatescope import command


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no name")])
def test_a_user_without_a_name_has_a_number(monkeypatch, error):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: (_ for _ in ()).throw(error))
    app = typer.Typer(add_completion=False)
    app.command()(lambda: print(getpass.getuser()))
    monkeypatch.setattr(sys, "argv", ["program"])
    printed = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit) as ended:
        command.execute(app)
    assert not ended.value.code
    printed.seek(0)
    assert printed.read() == f"{os.getuid()}\n"


def test_a_terminal_that_lacks_a_character_ends_no_command(monkeypatch):
    app = typer.Typer(add_completion=False)
    app.command()(lambda: print("0.8 \N{RIGHTWARDS ARROW} 0.9, é"))
    monkeypatch.setattr(sys, "argv", ["program"])
    printed = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit) as ended:
        command.execute(app)
    assert not ended.value.code
    printed.seek(0)
    assert printed.read() == "0.8 ? 0.9, é\n"
