"""A listener that was stopped by a finaliser could block its thread for ever, inside a block that held a policy's lock.

The collector runs finalisers wherever something is allocated, and that may be under a lock of ours: the metrics of a
web application that had gone out of use were taken out of the registry while a circuit was told that it is heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from resilience import CircuitBreaker, Retry, _hub, listen
from resilience.events import CallSucceeded, Event

PATIENCE = 10.0


def ends(work: Callable[[], object]) -> bool:
    """Whether this comes to an end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive()


@pytest.mark.parametrize("everywhere", [True, False], ids=["of all", "of one"])
def test_a_listener_is_stopped_under_the_lock_of_a_policy(everywhere: bool) -> None:
    """Stopping returns also where the thread holds the lock of a policy, and from then on nothing is heard."""
    breaker = CircuitBreaker(on=ValueError)
    heard: list[Event] = []
    stop = listen(heard.append, CallSucceeded) if everywhere else breaker.listen(heard.append, CallSucceeded)
    breaker.call(int)
    before = len(heard)

    def finaliser() -> None:
        with breaker._lock:
            stop()

    assert ends(finaliser)
    breaker.call(int)
    assert before == len([event for event in heard if event.policy == breaker.name]) == 1


def test_the_fast_way_is_back_after_one_call() -> None:
    """A policy that could not be told at once that nobody listens any more, knows it after its next call."""
    breaker = CircuitBreaker(on=ValueError)
    stop = breaker.listen(print, CallSucceeded)
    with breaker._lock:
        stop()
    breaker.call(int)
    assert breaker._channel.heard == bool(_hub.HUB.listeners)
    assert breaker._channel.heard or breaker._clean == breaker._permit


def test_nobody_who_listens_waits_for_a_policy_with_the_lock_of_the_hub() -> None:
    """While one thread waits to be heard by a policy whose lock is held, the holder may stop a listener of another."""
    held, other = CircuitBreaker(on=ValueError), Retry(on=ValueError)
    stop = other.listen(print)
    with held._lock:
        thread = threading.Thread(target=held.listen, args=(print,), daemon=True)
        thread.start()
        while not held._channel.heard:
            thread.join(0.001)
        assert ends(stop)
    thread.join(PATIENCE)
    assert not thread.is_alive()
