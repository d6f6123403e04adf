"""The examples of clients run against a flaky server, and are short."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import examples.clients
from tests.integrations.flaky_server import FlakyServer

FILES = sorted(Path(examples.clients.__path__[0]).glob("*_client.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_example(path: Path, server: FlakyServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each example gets its page from a server that fails twice, in at most 40 lines."""
    server.script = [503, "reset"]
    importlib.import_module(f"examples.clients.{path.stem}").main(server.url)
    assert "200" in capsys.readouterr().out
    assert len(server.requests) == 3
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
