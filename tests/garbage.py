"""What a piece of code leaves to the cycle collector."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def counted() -> Generator[Callable[[], int], None, None]:
    """Gives what tells, after the block, how many objects of it only the cycle collector could free."""
    found: list[int] = []
    # What is there by now is looked at no more: it is much, and what earlier tests have left may end in turns.
    gc.freeze()
    gc.disable()
    try:
        yield lambda: found[0]
        found.append(gc.collect())
    finally:
        gc.enable()


@contextmanager
def nothing_for_the_collector() -> Generator[None, None, None]:
    """Fail if the block leaves objects that only the cycle collector can free."""
    with counted() as garbage:
        yield
    assert garbage() == 0
