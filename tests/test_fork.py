"""Policies in the child of a threaded parent."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable

import pytest

from resilience import CircuitBreaker, Rejected, Retry, Throttle, listen

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

PATIENCE = 10.0


def in_child(work: Callable[[], str]) -> str:
    """What `work` returns in a forked child, or how it failed; a child that hangs is ended."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The very situation under test: 3.12 and later warn of it.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        answer = "nothing"
        try:
            answer = work()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, answer.encode())
            os._exit(0)
    os.close(writer)
    killer = threading.Timer(PATIENCE, lambda: os.kill(child, 9))
    killer.start()
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    killer.cancel()
    killer.join()
    return answer or "the child hung"


@contextlib.contextmanager
def hammered(*calls: Callable[[], object]):
    """Run each call over and over on a thread of its own."""
    stop = threading.Event()

    def hammer(call: Callable[[], object]) -> None:
        while not stop.is_set():
            with contextlib.suppress(ValueError, Rejected):
                call()

    threads = [threading.Thread(target=hammer, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def fails() -> None:
    raise ValueError


def test_a_child_forked_while_threads_hold_every_lock_can_use_every_policy():
    """A fork in the middle of other threads' calls leaves no lock held in the child."""
    breaker = CircuitBreaker(3, on=ValueError, cooldown=1e-6)
    throttle = Throttle("1000000/s", burst=1000)
    heard: list[object] = []
    stop = listen(heard.append)
    try:
        for _ in range(20):
            with hammered(lambda: breaker.call(fails), lambda: breaker.call(int), throttle.try_acquire):

                def work() -> str:
                    throttle.try_acquire()
                    breaker.reset()
                    retry = Retry(on=ValueError, backoff=0)
                    with contextlib.suppress(ValueError):
                        retry.call(lambda: breaker.call(fails))
                    return breaker.snapshot()["state"]

                assert in_child(work) in ("open", "half_open")
    finally:
        stop()


def test_a_child_draws_random_numbers_of_its_own():
    """Two children of one parent do not back off in lockstep."""
    retry = Retry(on=ValueError)
    retry._rng()
    draws = [in_child(lambda: repr([retry._rng() for _ in range(4)])) for _ in range(2)]
    assert draws[0].startswith("[") and draws[0] != draws[1]
