"""What a hedge gains and what it costs, with seeded latencies in virtual time, through the policy as it is used."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from resilience import Hedge
from tests.colours import LOOPS, Colour

MEDIAN, TAIL, CALLS = 0.010, 0.200, 3000


def two_modes(rng: random.Random, slow: float = 0.02) -> float:
    """A latency that is nearly always short, and 20 times as long in the tail."""
    return rng.gauss(TAIL, TAIL / 20) if rng.random() < slow else rng.gauss(MEDIAN, MEDIAN / 10)


def quantile(values: list[float], q: float) -> float:
    """The q-quantile of some values."""
    return sorted(values)[int(len(values) * q)]


def traffic(name: str, policy: Hedge, latency: Callable[[], float], calls: int = CALLS) -> tuple[list[float], int]:
    """So many hedged calls, one after another: how long each took, and how many were made in all."""
    colour = Colour.named(name)
    totals: list[float] = []
    made = 0

    async def read() -> None:
        nonlocal made
        made += 1
        await colour.sleep(latency())

    async def scenario() -> None:
        hedged = policy(read)
        for _ in range(calls):
            started = colour.clock.now()
            await hedged()
            totals.append(colour.clock.now() - started)

    colour.run(scenario)
    return totals, made


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LOOPS)
def test_a_long_tail_is_cut_in_half_for_a_twentieth_more_calls(
    name: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With p99 = 20 x median, the default hedge costs at most 5.5 % extra calls, and the p99 is at most half."""
    rng = random.Random(seed)
    plain = [two_modes(rng) for _ in range(20_000)]
    totals, made = traffic(name, Hedge(), lambda: two_modes(rng))
    extra, gain = made / CALLS - 1, quantile(totals, 0.99) / quantile(plain, 0.99)
    with capsys.disabled():
        print(f"\n  hedge, {name}, seed {seed}: {extra:.2%} extra (<= 5.5 %), p99 {gain:.2f} of the plain one (<= 0.5)")
    assert quantile(plain, 0.99) > 15 * quantile(plain, 0.5)
    assert extra <= 0.055
    assert gain <= 0.5


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("after", [0.0, 0.001])
def test_the_cap_holds_with_a_fixed_delay(name: str, after: float) -> None:
    """However early copies are wanted, at most the share and ten more are sent."""
    rng = random.Random(1)
    _, made = traffic(name, Hedge(after=after), lambda: two_modes(rng), 1000)
    assert 1040 <= made <= 1060


@pytest.mark.parametrize("name", LOOPS)
def test_the_cap_holds_when_everything_becomes_slow(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A service that becomes 20 times slower gets no more than the share on top, and ten more."""
    rng, policy = random.Random(2), Hedge()
    traffic(name, policy, lambda: rng.gauss(MEDIAN, MEDIAN / 10), 500)
    _, made = traffic(name, policy, lambda: rng.gauss(TAIL, TAIL / 10), 1000)
    with capsys.disabled():
        print(f"\n  hedge, {name}, everything slow: {made - 1000} copies for 1000 calls (<= 60)")
    assert made <= 1060


@pytest.mark.parametrize("name", LOOPS)
def test_the_cap_holds_when_everything_fails(name: str) -> None:
    """Failures, too, send copies out of the same credit only."""
    colour, policy = Colour.named(name), Hedge()
    fetch = colour.function([OSError, ...])

    async def scenario() -> None:
        for _ in range(1000):
            with pytest.raises(OSError):
                await policy.call_async(fetch)

    colour.run(scenario)
    assert len(fetch.calls) == 1050
