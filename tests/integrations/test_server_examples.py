"""The examples of servers keep to their limits, and are short."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from pathlib import Path

import pytest

import examples.servers

FILES = sorted(Path(examples.servers.__path__[0]).glob("*_server.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_example(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each example serves five requests of seven and says of the others when to come back, in at most 40 lines."""
    main = importlib.import_module(f"examples.servers.{path.stem}").main
    if inspect.iscoroutinefunction(main):
        asyncio.run(main())
    else:
        main()
    lines = capsys.readouterr().out.splitlines()
    assert [line[:3] for line in lines[1:]] == ["200"] * 4 + ["429"] * 2
    assert lines[0][:3] == ("504" if path.stem == "asgi_server" else "200")
    assert 1 <= int(lines[-1].split()[-1]) <= 12
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
