"""`disabled` and calls on other threads: what runs on workers or side by side runs where it is called, and alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilience import Hedge, Timeout, _compile
from resilience._hub import live
from resilience.policies._workers import WORKERS
from resilience.testing import virtual_time
from resilience.testing.disabled_block import disabled
from resilience.testing.disabled_shadows import real_class
from tests.colours import Colour, async_colours


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """After every test, no policy is disabled."""
    yield
    assert [policy for policy in live if type(policy) is not real_class(policy)] == []


@pytest.fixture(params=["generated", "closures"], autouse=True)
def wrappers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with generated wrappers and with closures."""
    monkeypatch.setattr(_compile, "ENABLED", request.param == "generated")


def here(*_: object) -> int:
    """The thread that runs this."""
    return threading.get_ident()


@pytest.mark.parametrize(
    "make", [lambda: Timeout(1, thread=True), lambda: Hedge(after=1, max_extra_load=1)], ids=["timeout", "hedge"]
)
def test_a_call_stays_on_the_thread_of_its_caller(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disabled policy asks for no worker, bound before or inside, and asks for one again afterwards."""
    policy = make()
    bound, call = policy(here), policy.call
    with disabled(policy), monkeypatch.context() as patch:
        patch.setattr(WORKERS, "submit", None)
        assert bound() == call(here) == policy(here)() == here()
    assert bound() != here()
    assert call(here) != here()


def test_what_is_raised_comes_from_the_call_itself() -> None:
    """Errors pass as they are, those too that end a thread, and keyword arguments reach the function."""

    def ends(*, code: int) -> None:
        raise SystemExit(code)

    for policy in (Timeout(1, thread=True), Hedge()):
        with disabled(policy), pytest.raises(SystemExit) as caught:
            policy.call(ends, code=3)
        assert caught.value.code == 3


def test_a_call_that_waits_for_its_worker_already_is_bounded_as_ever() -> None:
    """A call that is under way when the block begins is cut when its time has come."""
    began, ends = threading.Event(), threading.Event()
    timeout, came = Timeout(0.05, thread=True), []

    def work() -> None:
        began.set()
        ends.wait(10)

    def caller() -> None:
        try:
            timeout.call(work)
        except TimeoutError as error:
            came.append(error)

    thread = threading.Thread(target=caller)
    thread.start()
    assert began.wait(10)
    with disabled(timeout):
        thread.join(10)
    ends.set()
    assert len(came) == 1


@async_colours
async def test_a_hedged_coroutine_runs_in_its_callers_task(colour: Colour) -> None:
    """A disabled hedge starts no task of its own: what the call sets in its context is there afterwards."""
    import contextvars

    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="unset")
    hedge = Hedge(after=1, max_extra_load=1)

    async def fetch() -> str:
        mine.set("by the call")
        return "page"

    with disabled(hedge):
        assert await colour.call(hedge, fetch) == "page"
    assert mine.get() == "by the call"


def test_a_disabled_call_takes_no_time_to_hand_over() -> None:
    """In virtual time, too, the call happens at the reading at which it was made."""
    timeout = Timeout(1, thread=True)
    with virtual_time() as clock, disabled(timeout):
        began = clock.now()
        assert timeout.call(here) == here()
        assert clock.now() == began
