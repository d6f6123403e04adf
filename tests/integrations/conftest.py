"""A flaky server for each test, ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integrations.flaky_server import FlakyServer


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    flaky = FlakyServer()
    yield flaky
    flaky.end()
