"""The laws of a store, held against our own and against stores that each make one mistake."""

from __future__ import annotations

import pytest

from resilience.stores import MemoryStore
from resilience.testing import VirtualClock, conformance
from resilience.testing.conformance import Violation
from tests.testing import broken_stores as broken

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(1, 20))]

BROKEN = [
    (broken.OverAdmits, "T1", "T3", "T4", "peek"),
    (broken.ForgetsCost, "T1", "T4", "peek", "refund"),
    (broken.RefusalConsumes, "T6"),
    (broken.LosesRefunds, "refund"),
    (broken.NeverCharges, "refund"),
    (broken.WholeSeconds, "T3", "T4", "refund", "peek", "budget", "B5"),
    (broken.OneKeyOfTwo, "names"),
    (broken.OneBreaker, "names"),
    (broken.LooksThenTakes, "atomic"),
    (broken.LateResultCounted, "B1", "B2", "B4", "counts"),
    (broken.StaleLease, "B1", "B5", "B2", "B4"),
    (broken.TooManyTrials, "B1", "B5", "B4", "counts"),
    (broken.IgnoredCounts, "B4"),
    (broken.ToldTwice, "B3", "by hand"),
    (broken.ForgetsDeposits, "budget"),
    (broken.AwaitsInBetween, "atomic", "budget"),
    (broken.Silent, "answers"),
]


@pytest.mark.parametrize(
    ("kind", "laws"), [(kind, laws) for kind, *laws in BROKEN], ids=lambda value: getattr(value, "__name__", "")
)
@pytest.mark.parametrize("seed", SEEDS)
def test_each_broken_store_is_caught(kind: type[broken.Wrong], laws: list[str], seed: int) -> None:
    """A store with one mistake is caught, whatever the seed, and the violation names a law that it breaks."""
    with pytest.raises(Violation) as caught:
        conformance.store(lambda _: kind(), seed=seed)
    assert caught.value.law.split(":")[0] in laws
    assert caught.value.seen in str(caught.value)
    assert len(caught.value.script) <= 20


@pytest.mark.parametrize("seed", SEEDS)
def test_the_store_in_memory_keeps_the_laws(seed: int) -> None:
    """`MemoryStore` passes, made anew for each script or one for all, and so does what the broken ones are made of."""
    one = MemoryStore()
    conformance.store(lambda _: one, seed=seed)
    conformance.store(lambda clock: MemoryStore(clock=clock.now), seed=seed, examples=30)
    conformance.store(lambda _: broken.Wrong(), seed=seed, examples=30)


def test_the_script_is_short_and_readable() -> None:
    """What parts a store from the laws is cut down to the few questions that it takes."""
    with pytest.raises(Violation) as caught:
        conformance.store(lambda _: broken.LosesRefunds())
    assert caught.value.script[0].startswith("take(")
    assert any(line.startswith("settle(") for line in caught.value.script)
    assert len(caught.value.script) <= 5
    assert "was expected" in caught.value.seen


def test_the_kinds_of_question_can_be_chosen() -> None:
    """A store whose coroutine alone is wrong is caught by "async" and not by "sync"."""
    conformance.store(lambda _: broken.AwaitsInBetween(), colours=["sync"], examples=20)
    with pytest.raises(Violation):
        conformance.store(lambda _: broken.AwaitsInBetween(), colours=["async"])
    with pytest.raises(ValueError, match="colours must be some of"):
        conformance.store(lambda _: MemoryStore(), colours=["plain"])


def test_what_is_no_store_is_said() -> None:
    """Something without `ask` and `ask_async` is a TypeError."""
    with pytest.raises(TypeError, match="ask"):
        conformance.store(lambda _: VirtualClock())
