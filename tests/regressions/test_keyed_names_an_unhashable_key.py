"""A key that cannot be hashed, a list above all, was refused by Python's words, which say nothing of keys."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import Bulkhead, Keyed


@pytest.mark.parametrize("key", [["a"], ("a", ["b"]), {}], ids=repr)
def test_an_unhashable_key_is_told_what_a_key_is(key: Any) -> None:
    """Whatever cannot be hashed is refused with the rule for keys and its value."""
    hosts = Keyed(lambda _: Bulkhead(1))
    with pytest.raises(TypeError, match="key must be a str, an int or a tuple of them, got"):
        hosts[key]
