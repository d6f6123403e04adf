"""The laws of those who wait, in threads, on asyncio and on trio, held against lines that are broken in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import resilience
from resilience.testing import conformance
from resilience.testing.conformance import Violation
from tests.testing import broken, broken_lines

RUNTIMES = ("sync", "async", "trio")
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(1, 20))]


def bulkhead(kind: Callable[..., Any], colour: str, **options: Any) -> None:
    conformance.bulkhead(lambda _: kind(2, queue=3), colours=[colour], **options)


def throttle(kind: Callable[..., Any], colour: str, **options: Any) -> None:
    conformance.throttle(lambda clock: kind(10.0, 5.0, clock=clock), rate="10/s burst 5", colours=[colour], **options)


BROKEN = [
    (bulkhead, broken_lines.UnfairThreads, "sync", ("fifo",)),
    (bulkhead, broken_lines.PlaceLostOnFailure, "sync", ("place",)),
    (bulkhead, broken.UnfairQueue, "async", ("fifo",)),
    (bulkhead, broken_lines.UnfairTasks, "trio", ("fifo",)),
    (bulkhead, broken_lines.GhostInLine, "trio", ("place",)),
    *((throttle, broken_lines.EveryoneForThemselves, colour, ("T7", "T8")) for colour in RUNTIMES),
]


@pytest.mark.parametrize(
    ("check", "kind", "colour", "laws"), BROKEN, ids=[f"{kind.__name__}-{colour}" for _, kind, colour, _ in BROKEN]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_each_broken_line_is_caught(check: Any, kind: Any, colour: str, laws: tuple[str, ...], seed: int) -> None:
    """A line with one mistake is caught where its callers wait, whatever the seed."""
    with pytest.raises(Violation) as caught:
        check(kind, colour, seed=seed)
    assert caught.value.law.split(":")[0] in laws
    assert f"({colour}, seed {seed})" in caught.value.seen


@pytest.mark.parametrize(
    ("kind", "colour"),
    [(broken_lines.ThreadBulkhead, "sync"), (broken.Bulkhead, "async"), (broken_lines.TrioBulkhead, "trio")],
)
def test_a_good_line_of_somebody_elses_passes(kind: Any, colour: str) -> None:
    """The lines that the broken ones are made of keep the laws, in the runtime that they are made for."""
    bulkhead(kind, colour, examples=20)


@pytest.mark.parametrize("colour", RUNTIMES)
def test_our_lines_keep_the_laws(colour: str) -> None:
    """Bulkhead and throttle keep theirs in every runtime, and each can be chosen by itself."""
    conformance.bulkhead(
        lambda clock: resilience.Bulkhead(2, queue=2, clock=clock), colours=[colour], examples=40, seed=1
    )
    conformance.throttle(lambda clock: resilience.Throttle("10/s", clock=clock), colours=[colour], examples=20, seed=1)


def test_a_runtime_that_is_none_is_refused() -> None:
    """A word that is no runtime is an error that names those there are."""
    with pytest.raises(ValueError, match=r"colours must be some of \('sync', 'async', 'trio'\)"):
        conformance.bulkhead(lambda _: broken.Bulkhead(2, queue=1), colours=["threads"])
