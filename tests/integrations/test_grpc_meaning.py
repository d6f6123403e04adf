"""What a status of gRPC means, on errors made by hand."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.http import transient
from resilience.integrations._grpc_meaning import Failed, asked_of, never_left

RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
DETAILS = "grpc-status-details-bin"


class Err(grpc.RpcError):
    def __init__(self, code: str, *trailers: tuple[str, Any], text: str = "") -> None:
        super().__init__(text)
        self.parts = grpc.StatusCode[code], trailers, text

    def code(self) -> grpc.StatusCode:
        return self.parts[0]

    def trailing_metadata(self) -> Any:
        return self.parts[1]

    def details(self) -> str:
        return self.parts[2]


def field(number: int, value: bytes | int) -> bytes:
    """One field of a message of protobuf."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def status(seconds: int, nanos: int) -> bytes:
    """A google.rpc.Status with another detail, and a RetryInfo."""
    delay = field(1, seconds) + field(2, nanos)
    info = field(1, RETRY_INFO) + field(2, field(1, delay))
    other = field(1, b"type.googleapis.com/google.rpc.DebugInfo") + field(2, b"whatever")
    return field(1, 14) + field(2, b"text") + field(3, other) + field(3, info)


@pytest.mark.parametrize(
    ("code", "trailers", "asked"),
    [
        ("UNAVAILABLE", (), True),
        ("DEADLINE_EXCEEDED", (), True),
        ("RESOURCE_EXHAUSTED", (), False),
        ("INTERNAL", (("grpc-retry-pushback-ms", "10"),), False),
        ("RESOURCE_EXHAUSTED", (("grpc-retry-pushback-ms", "1500"),), 1.5),
        ("RESOURCE_EXHAUSTED", (("grpc-retry-pushback-ms", "-1"),), False),
        ("UNAVAILABLE", (("retry-after", "7"), ("grpc-retry-pushback-ms", "2000")), 7.0),
        ("RESOURCE_EXHAUSTED", (("ratelimit", '"a";r=0;t=9'), ("retry-after", "1")), 9.0),
        ("RESOURCE_EXHAUSTED", ((DETAILS, status(3, 500_000_000)),), 3.5),
        ("UNAVAILABLE", ((DETAILS, status(300, 0)),), 300.0),
        ("UNAVAILABLE", ((DETAILS, b"\xff\xff junk"),), True),
    ],
)
def test_asked_of(code: str, trailers: Any, asked: bool | float) -> None:
    """A status says "not now", or not, or when, by any of the four ways that a server has to say it."""
    assert asked_of(Err(code, *trailers)) == asked
    assert type(asked_of(Err(code, *trailers))) is type(asked)


@given(st.binary(max_size=60))
def test_no_junk_is_too_much(junk: bytes) -> None:
    """Whatever a server puts where a serialized status should be, the answer is a yes or a sane number."""
    asked = asked_of(Err("UNAVAILABLE", (DETAILS, junk)))
    assert asked is True or 0.0 <= asked < 1e9
    nested = field(3, field(1, RETRY_INFO) + field(2, junk))
    asked = asked_of(Err("UNAVAILABLE", (DETAILS, nested)))
    assert asked is True or 0.0 <= asked < 1e9


def test_policies_see_it_as_http_has_it() -> None:
    """`transient` knows a failed call, and waits as it asks."""
    assert transient(Failed(Err("UNAVAILABLE"), True)) is True
    assert transient(Failed(Err("RESOURCE_EXHAUSTED"), 1.5)) == 1.5
    failed = Failed(Err("UNAVAILABLE", ("a", "b"), text="why"), True)
    assert isinstance(failed, grpc.RpcError)
    assert (failed.code(), failed.details()) == (grpc.StatusCode.UNAVAILABLE, "why")
    assert failed.trailing_metadata() == (("a", "b"),)
    assert "why" in str(failed)


@pytest.mark.parametrize(
    ("error", "never"),
    [
        (Err("UNAVAILABLE", text="failed to connect to all addresses; last error: x"), True),
        (Err("UNAVAILABLE", text="errors resolving name.invalid:1: []"), True),
        (Err("UNAVAILABLE", text="DNS resolution failed for name.invalid:1"), True),
        (Err("UNAVAILABLE", text="Socket closed"), False),
        (Err("INTERNAL", text="failed to connect to all addresses"), False),
        (Err("UNAVAILABLE", ("hop", "2"), text="failed to connect to all addresses"), False),
        (ConnectionRefusedError(), False),
    ],
)
def test_never_left(error: Any, never: bool) -> None:
    """Only what gRPC's core says of a connection that it does not have is sure not to have left."""
    assert never_left(error) is never
