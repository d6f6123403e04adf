"""`disabled`, the block: which policies it covers, and how blocks begin, nest and end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Keyed,
    Pipeline,
    Policy,
    Rejected,
    Retry,
    Throttle,
    _compile,
)
from resilience._hub import live
from resilience.testing.clock import VirtualClock
from resilience.testing.disabled_block import disabled
from resilience.testing.disabled_shadows import real_class
from resilience.testing.reset import reset_all
from tests.colours import Colour, every_colour


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """After every test, no policy is disabled and the register is the ordinary one."""
    yield
    assert [policy for policy in live if type(policy) is not real_class(policy)] == []
    assert type(live).__name__ == "_Live"


@pytest.fixture(params=["generated", "closures"], autouse=True)
def wrappers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with generated wrappers and with closures."""
    monkeypatch.setattr(_compile, "ENABLED", request.param == "generated")


def down(*_: object) -> None:
    """Fail as a service does."""
    raise ConnectionError("connection refused")


def of_user(colour: Colour, fetch: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with a parameter `user`."""

    def plain(user: str) -> Any:
        return fetch(user)

    async def coroutine(user: str) -> Any:
        return await fetch(user)

    return coroutine if colour.is_async else plain


def opened() -> CircuitBreaker:
    """An open breaker."""
    breaker = CircuitBreaker(1, on=ConnectionError)
    breaker.open()
    return breaker


def test_all_of_them_and_those_built_inside() -> None:
    """Without names every policy is disabled, also one that is built inside, and all are enabled afterwards."""
    before = opened()
    with disabled():
        inside = opened()
        replaced = before.replace()
        replaced.open()
        for breaker in (before, inside, replaced):
            assert breaker.call(str) == ""
    for breaker in (before, inside, replaced):
        with pytest.raises(CircuitOpen):
            breaker.call(str)


def test_only_those_named() -> None:
    """A policy that is not named stays in force, a replacement of one that is, too."""
    named, other = opened(), opened()
    with disabled(named):
        assert named.call(str) == ""
        fresh = named.replace()
        fresh.open()
        for breaker in (other, fresh, CircuitBreaker(1, on=ConnectionError)):
            breaker.open()
            with pytest.raises(CircuitOpen):
                breaker.call(str)


def test_a_pipeline_means_its_parts() -> None:
    """The parts of a pipeline are disabled with it, those of pipelines inside it as well, and strangers are called."""

    class Upper:
        def bind(self, fn: Callable[..., str]) -> Callable[..., str]:
            return lambda *args: fn(*args).upper()

    breaker = opened()
    pipeline: Pipeline[Any] = Pipeline(Retry(on=ConnectionError, backoff=0), Pipeline(breaker), Upper())
    with disabled(pipeline):
        assert pipeline.call(str, "a") == "A"
        with pipeline.policies[1].guard():
            pass
        assert breaker.call(str) == ""


@every_colour
async def test_a_keyed_means_all_that_it_makes(colour: Colour) -> None:
    """The policies of a `Keyed` are disabled with it, those made inside the block too, and all are enabled after it."""
    hosts = Keyed(lambda host: CircuitBreaker(1, on=OSError), key="user", max_keys=2)
    fetching = hosts(of_user(colour, colour.function([OSError("down"), ...])))
    block = disabled(hosts)
    for host in "ab":
        hosts[host].open()
    with block:
        for host in "abc":
            with pytest.raises(OSError, match="down"):
                await colour.invoke(fetching, host)
        assert hosts["c"].state is CircuitState.CLOSED
        assert type(hosts.replace()) is Keyed
    for host in "abc":
        hosts[host].open()
        with pytest.raises(CircuitOpen):
            await colour.invoke(fetching, host)


def test_blocks_nest_and_overlap() -> None:
    """A policy is disabled while any block covers it, in whatever order blocks end."""
    breaker, other = opened(), opened()
    first, second, everyone = disabled(breaker), disabled(breaker, other), disabled()

    def passing() -> list[bool]:
        return [type(policy) is not CircuitBreaker for policy in (breaker, other)]

    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert passing() == [True, True]
    everyone.__enter__()
    second.__exit__(None, None, None)
    assert passing() == [True, True]
    everyone.__exit__(None, None, None)
    assert passing() == [False, False]


def test_an_error_ends_the_block_too() -> None:
    """Policies are enabled when the body raised."""
    breaker = opened()
    with pytest.raises(ConnectionError), disabled(breaker):
        breaker.call(down)
    with pytest.raises(CircuitOpen):
        breaker.call(str)


def test_a_block_is_entered_once() -> None:
    """A second entry is an error that says what to write, and changes nothing."""
    block = disabled(opened())
    with block:
        pass
    with pytest.raises(RuntimeError, match="entered once"), block:
        pass


def test_only_policies_can_be_named() -> None:
    """What is no policy, or one of an unknown kind, is a TypeError that names it."""

    class Stranger(Policy[Any]):
        def __repr__(self) -> str:
            return "Stranger()"

    wrong: Any = down
    with pytest.raises(TypeError, match="takes policies, got <function down"):
        disabled(wrong)
    with pytest.raises(TypeError, match="unknown kind"):
        disabled(Stranger())


def test_a_disabled_policy_is_still_itself() -> None:
    """Name, representation, class by name, state by hand and `reset_all` are those of the policy."""

    class Ours(CircuitBreaker):
        pass

    breaker = Ours(1, on=ConnectionError, name="ours", clock=VirtualClock())
    said = repr(breaker)
    with disabled():
        assert repr(breaker) == said
        assert breaker.name == "ours"
        assert isinstance(breaker, Ours)
        assert type(breaker.replace(name="next")).__name__ == "Ours"
        breaker.open()
        assert breaker.state is CircuitState.OPEN
        reset_all()
        assert breaker.state is CircuitState.CLOSED
        breaker.open()
    assert type(breaker) is Ours
    with pytest.raises(CircuitOpen):
        breaker.call(str)


def test_blocks_begin_and_end_beside_calls() -> None:
    """Threads that call while blocks come and go lose no place, and see no error but those of their policies."""
    bulkhead, limit = Bulkhead(2), AdaptiveLimit(initial=2)
    policy = Pipeline(Retry(on=OSError, backoff=0), bulkhead, limit, Throttle("2/s"), CircuitBreaker(5, on=OSError))
    ended, strange = threading.Event(), []

    @policy
    def flaky(number: int) -> int:
        if number % 3:
            return number
        raise OSError

    def caller() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            try:
                flaky(number)
            except (OSError, Rejected):
                pass
            except BaseException as error:
                strange.append(error)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(300):
            with disabled(policy), disabled():
                pass
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert strange == []
    assert bulkhead.snapshot()["in_flight"] == limit.snapshot()["in_flight"] == 0


def test_a_call_on_another_thread_follows() -> None:
    """The block is for the whole process."""
    breaker, outcomes = opened(), []
    call = breaker(lambda: outcomes.append("passed"))
    with disabled(breaker):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert outcomes == ["passed"]
