"""A call without the argument that names the key was told that the key was of a wrong type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilience import CircuitBreaker, Keyed, LoadShedder, Throttle


@pytest.mark.parametrize(
    "policy",
    [
        Keyed(lambda key: CircuitBreaker(), key="host"),
        Throttle("10/s", key="host"),
        LoadShedder(user="host"),
    ],
    ids=lambda policy: policy.kind,
)
def test_a_missing_argument_is_missed_in_the_words_of_the_function(policy: Callable[..., Any]) -> None:
    """A required argument that is not there is a TypeError that names it, with a policy as without."""

    @policy
    def fetch(host: str, page: int = 1) -> str:
        return f"{host} {page}"

    with pytest.raises(TypeError, match="missing a required argument: 'host'"):
        fetch()
    assert fetch("a") == fetch(host="a") == "a 1"
