"""The example of gRPC runs against a server that fails, and is short."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from examples.clients import grpc_calls
from tests.integrations.grpc_server import RpcServer


def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example gets its answers from a server that fails twice, blocking and in asyncio, in at most 40 lines."""
    server = RpcServer()
    server.script = [grpc.StatusCode.UNAVAILABLE] * 2 + [None] + [grpc.StatusCode.UNAVAILABLE] * 2
    grpc_calls.main(server.target)
    server.end()
    assert capsys.readouterr().out.count("hello") == 2
    assert server.attempts() == ["1", "2", "3"] * 2
    assert len(Path(grpc_calls.__file__).read_text(encoding="utf-8").splitlines()) <= 40
