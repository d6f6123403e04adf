"""Ctrl-C in a simulation printed the traces of every process that played in it."""

from __future__ import annotations

import pytest

from resilience.testing.simulation import command_line


def test_an_interrupt_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupted simulation ends with status 130 and one sentence, and prints no table."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "simulate", interrupted)
    assert command_line.main(["simulate", "retry-storm"]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip() == "python -m resilience simulate: interrupted"
