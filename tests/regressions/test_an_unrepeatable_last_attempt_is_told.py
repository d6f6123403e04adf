"""A second attempt that might not be repeated ended the retry without an event."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from resilience import Retry, events
from resilience.http import transient
from resilience.integrations._exchange import Exchange
from tests.integrations.clients import CLIENTS, OWN
from tests.integrations.flaky_server import FlakyServer


@pytest.mark.parametrize("name", ["httpx", "httpx async"])
def test_second_attempt_of_a_post(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A POST that was not sent, and then lost when it was, is told as given up after two attempts."""
    server = FlakyServer()
    server.script = ["reset"]
    address = server.url.removeprefix("http://")
    told: list[Any] = []
    retry = Retry(on=transient, backoff=0)
    retry.listen(told.append)
    failed = 0

    def origin_is_gone(self: Any, *args: Any) -> Any:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise ConnectionRefusedError(address)
        return begin(self, *args)

    begin = Exchange.begin
    monkeypatch.setattr(Exchange, "begin", origin_is_gone)
    with ExitStack() as stack:
        stack.callback(server.end)
        with pytest.raises(OWN[name]):
            CLIENTS[name](stack, retry, timeout=3.0)("POST", server.url, b"x")
    assert [type(event) for event in told] == [events.AttemptFailed, events.RetryScheduled, events.RetryGaveUp]
    assert (told[-1].attempts, told[-1].reason) == (2, "unmatched")
