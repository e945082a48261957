"""How commands are run, for whom and where."""

import getpass
import io
import os
import pwd
import sys
from datetime import datetime
from typing import Annotated

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


def test_a_value_of_another_form_is_told_without_words_of_a_library(monkeypatch, capsys):
    def show(at: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])]):
        print(at)

    app = typer.Typer(add_completion=False)
    app.command()(show)
    monkeypatch.setattr(sys, "argv", ["program", "--at", "yesterday"])
    with pytest.raises(SystemExit) as ended:
        command.execute(app, "show")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "'yesterday' does not match" in told
    assert "Value error" not in told


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
