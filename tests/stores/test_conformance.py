"""The laws of a store, held against the one on a server."""

from __future__ import annotations

import pytest

from resilience.stores import RedisStore
from resilience.testing import conformance


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_store_on_a_server_keeps_the_laws(store: RedisStore, colour: str) -> None:
    """`RedisStore` answers as the cores do, by `ask` and by `ask_async`, on a server that many share."""
    for seed in (0, 1):
        conformance.store(lambda _: store, colours=[colour], examples=6, seed=seed)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(20))
def test_the_store_on_a_server_keeps_the_laws_for_many_seeds(store: RedisStore, seed: int) -> None:
    """The same with every script of twenty seeds."""
    conformance.store(lambda _: store, seed=seed)
