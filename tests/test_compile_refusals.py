"""Refusals of an open breaker that are made without its lock: they say what a refusal with the lock would say."""

from __future__ import annotations

import gc
import pickle
from contextlib import suppress
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, backoff
from resilience.events import CallRejected
from resilience.testing import VirtualClock


class Clock(VirtualClock):
    """A virtual clock that can be set back."""

    shift = 0.0

    def now(self) -> float:
        return super().now() + self.shift


def refused(fn: Any) -> CircuitOpen:
    """The refusal of one call."""
    with pytest.raises(CircuitOpen) as caught:
        fn()
    return caught.value


def opened(**options: Any) -> tuple[CircuitBreaker, Any, Clock]:
    """A breaker that a failure has just opened, and a function behind it."""
    clock = Clock()
    breaker = CircuitBreaker(1, clock=clock, name="db", **options)

    @breaker
    def fetch() -> None:
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        fetch()
    return breaker, fetch, clock


def test_every_refusal_says_the_same_but_for_the_time() -> None:
    """The second refusal, made without the lock, says what the first said, brought up to date."""
    breaker, fetch, clock = opened(cooldown=30)
    first = refused(fetch)
    assert breaker._shut is not None
    clock.advance(10)
    for refusal in (refused(fetch), refused(lambda: breaker.call(fetch.__wrapped__))):
        assert type(refusal) is CircuitOpen
        assert (refusal.policy, refusal.state, refusal.last_error, refusal.args) == (
            first.policy,
            first.state,
            first.last_error,
            first.args,
        )
        assert refusal.retry_after == 20.0
        assert str(refusal) == str(first).replace("30 s", "20 s")
        assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal)


def test_retry_after_is_enough_to_the_last_bit() -> None:
    """Coming back after `retry_after` seconds finds the circuit half-open, whatever the rounding."""
    breaker, fetch, clock = opened(cooldown=0.7)
    refused(fetch)
    for step in (0.1, 0.123456789, 1e-9, 0.3):
        clock.advance(step)
        refusal = refused(fetch)
        assert clock.now() + (refusal.retry_after or 0.0) >= 0.7
    clock.advance(refused(fetch).retry_after or 0.0)
    assert breaker.state == "half_open"


def test_a_clock_that_steps_back_makes_no_refusal_longer() -> None:
    """A reading older than the newest that the circuit has seen is raised to it."""
    breaker, fetch, clock = opened(cooldown=30)
    clock.advance(10)
    assert breaker.state == "open"
    assert refused(fetch).retry_after == 20.0
    clock.shift = -5.0
    assert refused(fetch).retry_after == 20.0


def test_the_end_of_a_cooldown_ends_the_refusals() -> None:
    """At the end of the cooldown the next call is a trial, and its failure opens the circuit for as long again."""
    breaker, fetch, clock = opened(cooldown=30)
    refused(fetch)
    clock.advance(30)
    with pytest.raises(ConnectionError):
        fetch()
    assert refused(fetch).retry_after == refused(fetch).retry_after == 30.0
    breaker.close()
    with pytest.raises(ConnectionError):
        fetch()


def test_a_cooldown_that_grows_is_told_by_every_refusal() -> None:
    """No refusal tells the length of the cooldown before."""
    breaker, fetch, clock = opened(cooldown=backoff.exponential(10, jitter="none", cap=1000))
    assert refused(fetch).retry_after == refused(fetch).retry_after == 10.0
    clock.advance(10)
    with pytest.raises(ConnectionError):
        fetch()
    assert refused(fetch).retry_after == refused(fetch).retry_after == 20.0
    breaker.open()
    assert refused(fetch).retry_after == refused(fetch).retry_after == breaker.snapshot()["retry_after"]


def test_by_hand_takes_effect_on_the_next_call() -> None:
    """Isolating, opening anew and resetting are seen by the next call, however the one before was refused."""
    breaker, fetch, clock = opened(cooldown=30)
    refused(fetch)
    with breaker.isolate("deploy"):
        refusal = refused(fetch)
        assert (refusal.state, refusal.retry_after) == ("isolated", None)
        assert refused(fetch).state == "isolated"
    breaker.open()
    refused(fetch)
    clock.advance(20)
    breaker.open()
    assert refused(fetch).retry_after == 30.0
    breaker.reset()
    with pytest.raises(ConnectionError):
        fetch()


def test_a_listener_hears_of_every_refusal() -> None:
    """From the moment somebody listens, each refusal is told."""
    breaker, fetch, _ = opened(cooldown=30)
    refused(fetch)
    heard: list[Any] = []
    stop = breaker.listen(heard.append, CallRejected)
    refused(fetch)
    refused(fetch)
    stop()
    refused(fetch)
    assert [event.retry_after for event in heard] == [30.0, 30.0]


def test_a_refusal_leaves_no_garbage() -> None:
    """A refusal that was caught and dropped is gone, without the collector."""
    _, fetch, _ = opened(cooldown=30)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            with suppress(CircuitOpen):
                fetch()
        assert gc.collect() == 0
    finally:
        gc.enable()
