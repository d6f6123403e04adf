"""The harness itself: each of its promises in every colour it makes them for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import pytest
import trio

from resilience import Retry, Throttle, TimedOut, Timeout
from tests.colours import ALL, FORMS, Colour, async_colours, every_colour


class Doubling:
    """A policy as far as the harness knows: it doubles what a function returns, and counts its blocks."""

    def __init__(self) -> None:
        self.blocks: list[str] = []

    def __call__(self, fn: Any) -> Any:
        if asyncio.iscoroutinefunction(fn):

            async def twice_async(*args: Any) -> Any:
                return 2 * await fn(*args)

            return twice_async
        return lambda *args: 2 * fn(*args)

    def call(self, fn: Any, /, *args: Any) -> Any:
        return self(fn)(*args)

    async def call_async(self, fn: Any, /, *args: Any) -> Any:
        return 2 * await fn(*args)

    def guard(self, *, word: str = "") -> Any:
        return Block(self, word)


class Block(AbstractContextManager[str], AbstractAsyncContextManager[str]):
    """What `Doubling` gives for a block."""

    def __init__(self, policy: Doubling, word: str) -> None:
        self.policy = policy
        self.word = word

    def __enter__(self) -> str:
        self.policy.blocks.append("with")
        return self.word

    def __exit__(self, *_: object) -> None:
        self.policy.blocks.append("out")

    async def __aenter__(self) -> str:
        self.policy.blocks.append("async with")
        return self.word

    async def __aexit__(self, *_: object) -> None:
        self.policy.blocks.append("out")


@every_colour
async def test_waits_between_attempts(colour: Colour) -> None:
    """A retry waits its backoff between two attempts: the example that the harness is introduced by."""
    retry = Retry(on=OSError, backoff=2, clock=colour.clock)
    fetch = colour.function([OSError(), OSError(), "page"])
    assert await colour.call(retry, fetch, "/") == "page"
    assert colour.clock.sleeps == [2.0, 2.0]
    assert fetch.calls == [("/",)] * 3


@async_colours
async def test_what_the_loop_times_is_virtual_too(colour: Colour) -> None:
    """A timeout, which the loop itself times, cuts a call at its virtual second, given a clock or not."""
    for policy in (Timeout(2, clock=colour.clock), Timeout(2)):
        before = colour.clock.now()
        with pytest.raises(TimedOut):
            await colour.call(policy, colour.function([(5, "late")]))
        assert colour.clock.now() == before + 2


@every_colour
async def test_callers_at_once_wait_in_one_time(colour: Colour) -> None:
    """Five callers at once of one call a second get their turn a second apart, threads as well as tasks."""
    throttle, turns = Throttle("1/s", max_wait=100, clock=colour.clock), []

    async def caller() -> None:
        await colour.call(throttle, colour.function(["done"]))
        turns.append(colour.clock.now())

    await colour.together(*[caller] * 5)
    assert sorted(turns) == [0, 1, 2, 3, 4]


@every_colour
async def test_a_scenario_runs_in_its_colour(colour: Colour) -> None:
    """The scenario runs on the loop whose name the colour bears, and on none in plain colour."""
    in_trio = in_asyncio = True
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        in_trio = False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        in_asyncio = False
    assert (in_asyncio, in_trio) == (colour.name == "asyncio", colour.name == "trio")
    assert colour.is_async == (colour.name != "sync")


@pytest.mark.parametrize("word", ["above", "below"])
@every_colour
@pytest.mark.parametrize("number", [1, 2])
async def test_parameters_and_fixtures_reach_the_scenario(
    colour: Colour, word: str, number: int, request: pytest.FixtureRequest
) -> None:
    """Fixtures, and parameters above and below the decorator, come to the scenario as to any test."""
    assert request.node.callspec.params == {"colour": colour.name, "word": word, "number": number}


class TestMethods:
    @every_colour
    async def test_a_method_can_be_a_scenario(self, colour: Colour) -> None:
        """A method of a test class can be a scenario too."""
        assert isinstance(self, TestMethods)
        assert isinstance(colour, Colour)


@pytest.mark.parametrize("name", ALL)
def test_run_gives_back_what_the_scenario_returns(name: str) -> None:
    """`run` returns what the scenario returns, and raises its error itself, not a group that holds it."""

    async def seven() -> int:
        return 7

    async def fail() -> None:
        raise LookupError("as it is")

    assert Colour.named(name).run(seven) == 7
    with pytest.raises(LookupError, match="as it is"):
        Colour.named(name).run(fail)


def test_a_plain_scenario_may_not_await_a_loop() -> None:
    """In plain colour, awaiting something that needs a loop is an error that says so."""

    async def lost() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="go by way of the colour"):
        Colour.named("sync").run(lost)


@every_colour
async def test_a_function_follows_its_script(colour: Colour) -> None:
    """A scripted function returns and raises in order, takes the time it is told to, and records its calls."""
    error = OSError("down")
    fetch = colour.function([error, KeyError, (2, "slow"), (3, error), None])
    with pytest.raises(OSError, match="down") as caught:
        await colour.invoke(fetch, 1)
    assert caught.value is error
    with pytest.raises(KeyError):
        await colour.invoke(fetch, 2)
    assert await colour.invoke(fetch, 3, kept="aside") == "slow"
    with pytest.raises(OSError, match="down"):
        await colour.invoke(fetch)
    assert await colour.invoke(fetch) is None
    assert fetch.calls == [(1,), (2,), (3,), (), ()]
    assert fetch.times == [0, 0, 0, 2, 5]
    assert asyncio.iscoroutinefunction(fetch) == colour.is_async


@every_colour
async def test_a_call_too_many_fails_the_test(colour: Colour) -> None:
    """When a script has run out, a further call fails the test by an error that no policy catches."""
    fetch = colour.function(["once"])
    await colour.invoke(fetch)
    with pytest.raises(pytest.fail.Exception, match="call number 2 of a script of 1"):
        await colour.invoke(fetch)
    assert not issubclass(pytest.fail.Exception, Exception)


@every_colour
async def test_an_ellipsis_repeats_the_last_step(colour: Colour) -> None:
    """A script that ends in `...` goes on for ever."""
    fetch = colour.function([1, 2, ...])
    assert [await colour.invoke(fetch) for _ in range(5)] == [1, 2, 2, 2, 2]


@every_colour
async def test_every_form_of_a_call(colour: Colour) -> None:
    """One scenario calls through a policy in each form that its colour has."""
    policy = Doubling()
    got = {form: await colour.call(policy, colour.function([21]), form=form) for form in FORMS}
    assert got == {"call": 42, "decorator": 42, "guard": 21}
    assert policy.blocks == ["async with" if colour.is_async else "with", "out"]


@every_colour
async def test_a_guard_takes_arguments_and_lets_errors_through(colour: Colour) -> None:
    """A block gets what `guard` was given, and its error leaves it unchanged."""
    policy, words = Doubling(), []

    async def block() -> None:
        async with colour.guard(policy, word="hello") as word:
            words.append(word)
            raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        await block()
    assert words == ["hello"]
    assert policy.blocks[-1] == "out"


@every_colour
async def test_sleep_lets_virtual_time_pass(colour: Colour) -> None:
    """A sleep of a day takes no time, is recorded, and moves the clock by a day."""
    await colour.sleep(86_400)
    assert colour.clock.now() == 86_400
    assert colour.clock.sleeps == [86_400]


@every_colour
async def test_together_runs_all_at_once(colour: Colour) -> None:
    """Callers run at once: each of twenty goes on only when all have come."""
    gate, here, lock = colour.gate(), [0], threading.Lock()

    async def caller() -> int:
        with lock:
            here[0] += 1
            mine = here[0]
        if mine == 20:
            gate.open()
        await gate.wait()
        return mine

    assert sorted(await colour.together(*[caller] * 20)) == list(range(1, 21))


@every_colour
async def test_together_tells_results_and_errors_in_order(colour: Colour) -> None:
    """What callers return and what they raise, interrupts included, comes back in the order of the callers."""

    async def give() -> str:
        return "given"

    async def fail() -> None:
        raise OSError("failed")

    async def interrupt() -> None:
        raise KeyboardInterrupt

    first, second, third, fourth = await colour.together(fail, give, interrupt, give)
    assert (second, fourth) == ("given", "given")
    assert isinstance(first, OSError)
    assert isinstance(third, KeyboardInterrupt)


@every_colour
async def test_a_job_runs_in_the_background(colour: Colour) -> None:
    """A job goes on while the scenario does, and its outcome can be had more than once."""
    gate, log = colour.gate(), []

    async def caller(word: str) -> str:
        log.append("started")
        await gate.wait()
        return word

    job = colour.start(caller, "done")
    await colour.until(lambda: log)
    log.append("meanwhile")
    gate.open()
    assert await job.outcome() == await job.outcome() == "done"
    assert log == ["started", "meanwhile"]


@async_colours
async def test_a_job_can_be_cancelled(colour: Colour) -> None:
    """Cancelling a job ends it where it waits, and its outcome is the cancellation."""
    log: list[str] = []

    async def caller() -> None:
        log.append("in")
        try:
            await colour.gate().wait()
        finally:
            log.append("out")

    job = colour.start(caller)
    await colour.until(lambda: log)
    job.cancel()
    assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)
    assert log == ["in", "out"]


@async_colours
async def test_a_job_can_be_cancelled_before_it_starts(colour: Colour) -> None:
    """A job that is cancelled at once does not get past its first wait."""
    job = colour.start(colour.sleep, 1)
    job.cancel()
    assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)
    assert colour.clock.now() == 0


@every_colour
async def test_a_job_left_behind_ends_with_the_scenario(colour: Colour) -> None:
    """On a loop, the scenario does not wait for a job that nobody waits for."""
    if colour.is_async:
        colour.start(colour.gate().wait)
    assert colour.clock.now() == 0


def test_a_thread_cannot_be_cancelled() -> None:
    """Cancelling in plain colour fails the test and says what to use."""

    async def scenario(colour: Colour) -> None:
        gate = colour.gate()
        job = colour.start(gate.wait)
        gate.open()
        job.cancel()

    colour = Colour.named("sync")
    with pytest.raises(pytest.fail.Exception, match="async_colours"):
        colour.run(lambda: scenario(colour))


@every_colour
async def test_until_gives_up(colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes true fails the test."""
    monkeypatch.setattr("tests.colours.PATIENCE", 0.01)
    with pytest.raises(pytest.fail.Exception, match="still not so after"):
        await colour.until(list)


def test_a_gate_that_nobody_opens() -> None:
    """In plain colour, a thread does not wait for ever at a gate."""

    async def scenario(colour: Colour) -> None:
        await colour.gate().wait()

    colour = Colour.named("sync")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.colours.PATIENCE", 0.01)
        with pytest.raises(pytest.fail.Exception, match="nobody opened the gate"):
            colour.run(lambda: scenario(colour))
