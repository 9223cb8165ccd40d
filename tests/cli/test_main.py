"""The command line as a whole: exit codes, and errors without tracebacks."""

from __future__ import annotations

import pytest

from molmeta import cli
from molmeta.cli import main
from molmeta.errors import ModelFileError


def test_an_error_is_one_sentence_and_code_2(capsys):
    assert main(["demo", "--model", "nowhere"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith('ModelFileError: there is no model "nowhere"')
    assert "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("MOLMETA_DEBUG", "0")  # restored after the test
    with pytest.raises(ModelFileError):
        main(["--debug", "demo", "--model", "nowhere"])


def test_ctrl_c_is_code_130_and_says_what_remains(monkeypatch, capsys):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt("Half is done.")

    monkeypatch.setattr("molmeta.bundle.Bundle.load", interrupted)
    assert main(["demo"]) == cli.INTERRUPTED == 130
    assert "Half is done." in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["predcit"], ["predict"], ["predict", "--suport", "x"], []])
def test_a_wrong_command_line_is_code_2(arguments):
    assert main(arguments) == 2


@pytest.mark.parametrize("verb", ["predict", "explain", "demo", "train", "evaluate", "data", "doctor"])
def test_every_verb_explains_itself(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "Usage: molmeta" in capsys.readouterr().out


def test_a_verb_has_15_options_at_most():
    import inspect

    from molmeta.cli.predict import predict

    assert len(inspect.signature(predict).parameters) <= 15
