"""A key with half a surrogate pair, which JSON can hold, could not be escaped: that was taken for an outage.

So any user could turn a shared limit into a local one for everybody, as often as he liked.
"""

from __future__ import annotations

import pytest

pytest.importorskip("redis", reason="redis-py is not installed")

import redis

from resilience.stores import RedisStore


def test_every_text_is_a_key() -> None:
    """Half a character has a key, and one of its own."""
    store = RedisStore(redis.Redis())
    texts = ("\ud800", "\udfff", "?", "\ufffd")
    keys = {store.key("bucket", ("api", text)) for text in texts}
    assert len(keys) == len(texts)
    assert all(key.isascii() for key in keys)
