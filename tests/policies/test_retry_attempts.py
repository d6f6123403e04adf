"""Retrying a block: `for attempt in retry.attempts(): with attempt:`."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from resilience import DeadlineExceeded, ResultNotAccepted, Retry, Throttled, context
from resilience._attempt import current_attempt
from resilience.testing import VirtualClock
from tests.colours import Colour, async_colours, every_colour


def attempts_of(colour: Colour, retry: Retry) -> AsyncIterator[Any]:
    """The attempts, by `for` in plain code and by `async for` on a loop, to be written once."""

    async def plain() -> AsyncIterator[Any]:
        for attempt in retry.attempts():
            yield attempt

    return aiter(retry.attempts()) if colour.is_async else plain()


@every_colour
async def test_a_block_runs_until_it_succeeds(colour: Colour) -> None:
    """The block is run again, after the backoff's delay, as long as it fails in a way that is retried."""
    numbers: list[int] = []
    async for attempt in attempts_of(colour, Retry(on=OSError, backoff=[1, 2.5])):
        with attempt:
            numbers.append(attempt.number)
            if len(numbers) < 3:
                raise OSError
    assert numbers == [1, 2, 3]
    assert colour.clock.sleeps == [1.0, 2.5]


@every_colour
async def test_a_block_that_succeeds_runs_once(colour: Colour) -> None:
    """A first success ends the loop."""
    rounds = 0
    async for attempt in attempts_of(colour, Retry(on=OSError)):
        with attempt:
            rounds += 1
    assert rounds == 1


@every_colour
async def test_the_last_error_leaves_the_block_as_it_is(colour: Colour) -> None:
    """When attempts run out, the block's own error is raised, with one note."""
    errors = [OSError(1), OSError(2), OSError(3)]
    with pytest.raises(OSError) as caught:
        async for attempt in attempts_of(colour, Retry(on=OSError, backoff=1)):
            with attempt:
                raise errors[attempt.number - 1]
    assert caught.value is errors[2]
    assert caught.value.__context__ is None
    assert caught.value.__notes__ == ["resilience: gave up after 3 attempts and 2 s of waiting, ended by attempts"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, asyncio.CancelledError, Throttled("t")], ids=repr)
@every_colour
async def test_what_is_not_retried_leaves_the_loop(colour: Colour, error: Any) -> None:
    """An error that does not match, a rejection or an interrupt goes straight through."""
    rounds = 0
    with pytest.raises(error if isinstance(error, type) else type(error)):
        async for attempt in attempts_of(colour, Retry(on=(OSError, Exception), ignore=KeyError)):
            with attempt:
                rounds += 1
                raise error
    assert rounds == 1


@every_colour
async def test_infinite_attempts(colour: Colour) -> None:
    """With `math.inf` the loop goes on until the block succeeds."""
    async for attempt in attempts_of(colour, Retry(on=OSError, attempts=math.inf, backoff=0)):
        with attempt:
            if attempt.number < 300:
                raise OSError


# --- results ----------------------------------------------------------------------------------------------------------


@every_colour
async def test_a_result_is_judged(colour: Colour) -> None:
    """What `set_result` says is shown to `on_result`; the last word counts."""
    results: list[int] = []
    async for attempt in attempts_of(colour, Retry(on_result=lambda result: result < 3, backoff=1)):
        with attempt:
            attempt.set_result(None)
            attempt.set_result(attempt.number)
            results.append(attempt.number)
    assert results == [1, 2, 3]
    assert colour.clock.sleeps == [1.0, 1.0]


@every_colour
async def test_no_result_accepted(colour: Colour) -> None:
    """When no result is accepted the loop ends with `ResultNotAccepted`, or in peace with `on_exhausted="return"`."""
    retry = Retry(on_result=lambda result: True, backoff=2, name="poll")
    with pytest.raises(ResultNotAccepted) as caught:
        async for attempt in attempts_of(colour, retry):
            with attempt:
                attempt.set_result("no")
    assert (caught.value.last_result, caught.value.attempts, caught.value.elapsed) == ("no", 3, 4.0)
    rounds = 0
    async for attempt in attempts_of(colour, retry.replace(on_exhausted="return")):
        with attempt:
            rounds += 1
            attempt.set_result("no")
    assert rounds == 3


@every_colour
async def test_a_forgotten_result_is_an_error(colour: Colour) -> None:
    """With `on_result` set, a block that does not say what it produced is told what to write."""
    with pytest.raises(RuntimeError, match=r"^poll has on_result, so .*: attempt\.set_result\(x\)$"):
        async for attempt in attempts_of(colour, Retry(on_result=lambda result: False, name="poll")):
            with attempt:
                pass


@every_colour
async def test_a_block_that_fails_needs_no_result(colour: Colour) -> None:
    """An error is judged as an error, before and after a result was set."""
    async for attempt in attempts_of(colour, Retry(on=OSError, on_result=lambda result: False, backoff=0)):
        with attempt:
            if attempt.number == 1:
                raise OSError
            if attempt.number == 2:
                attempt.set_result("never seen")
                raise OSError
            attempt.set_result("good")
    assert attempt.number == 3


@every_colour
async def test_a_result_without_on_result_is_accepted(colour: Colour) -> None:
    """Where nothing judges results, saying one does no harm."""
    async for attempt in attempts_of(colour, Retry(on=OSError)):
        with attempt:
            attempt.set_result(None)
    assert attempt.number == 1


# --- leaving early ----------------------------------------------------------------------------------------------------


@every_colour
async def test_break_leaves_nothing_behind(colour: Colour) -> None:
    """Breaking out of the loop, inside or outside of the block, ends deadline and attempt with it."""
    retry = Retry(on=OSError, within=60, backoff=1)
    before = dict(contextvars.copy_context())
    async for attempt in attempts_of(colour, retry):
        with attempt:
            assert context.remaining() == 60.0
            break
    async for attempt in attempts_of(colour, retry):
        with attempt:
            raise OSError
        break
    assert colour.clock.sleeps == []
    assert dict(contextvars.copy_context()) == before


@every_colour
async def test_return_leaves_the_loop(colour: Colour) -> None:
    """A function may return from inside the block, with a result that has been judged."""

    async def fetch() -> int:
        async for attempt in attempts_of(colour, Retry(on=OSError, on_result=lambda result: result < 2, backoff=1)):
            with attempt:
                if attempt.number == 1:
                    raise OSError
                attempt.set_result(attempt.number)
                return attempt.number
        return 0

    assert await fetch() == 2
    assert context.remaining() is None


@every_colour
async def test_blocks_nest(colour: Colour) -> None:
    """A retried block inside another one's attempt counts for itself, one level deeper."""
    seen: list[tuple[int, int] | None] = []
    outer, inner = Retry(on=KeyError, backoff=10), Retry(on=OSError, backoff=1, attempts=2)
    async for above in attempts_of(colour, outer):
        with above:
            seen.append(current_attempt())
            async for below in attempts_of(colour, inner):
                with below:
                    seen.append(current_attempt())
                    if below.number == 1:
                        raise OSError
            seen.append(current_attempt())
            if above.number == 1:
                raise KeyError
    assert seen == [(1, 0), (1, 1), (2, 1), (1, 0), (2, 0), (1, 1), (2, 1), (2, 0)]
    assert colour.clock.sleeps == [1.0, 10.0, 1.0]
    assert current_attempt() is None


# --- deadlines --------------------------------------------------------------------------------------------------------


@every_colour
async def test_within_counts_over_all_blocks(colour: Colour) -> None:
    """The deadline is one for all attempts: each block sees what is left, and no wait reaches its end."""
    seen: list[float | None] = []
    with pytest.raises(OSError):
        async for attempt in attempts_of(colour, Retry(on=OSError, within=10, backoff=3, attempts=99)):
            with attempt:
                seen.append(context.remaining())
                await colour.sleep(1)
                raise OSError
    assert seen == [10.0, 6.0, 2.0]
    assert colour.clock.now() == 9.0
    assert context.remaining() is None


@async_colours
async def test_an_async_block_is_cut_at_within(colour: Colour) -> None:
    """On a loop the block that is running when `within` ends is cancelled; the error names the whole bound."""
    numbers: list[int] = []
    with pytest.raises(DeadlineExceeded) as caught:
        async for attempt in Retry(on=OSError, within=5, backoff=1, name="r").attempts():
            with attempt:
                numbers.append(attempt.number)
                await colour.sleep(2 if attempt.number == 1 else 100)
                raise OSError
    assert numbers == [1, 2]
    assert colour.clock.now() == 5.0
    assert (caught.value.policy, caught.value.seconds) == ("r", 5.0)


@async_colours
async def test_a_plain_loop_in_async_code_cuts_nothing(colour: Colour) -> None:
    """`for` keeps to the plain rules on a loop too: it says what is left, and does not cancel."""
    for attempt in Retry(on=OSError, within=5).attempts():
        with attempt:
            await colour.sleep(50)
            assert context.remaining() == 0.0


@async_colours
async def test_time_between_blocks_counts(colour: Colour) -> None:
    """Whoever dawdles before the block has less time in it."""
    with pytest.raises(DeadlineExceeded) as caught:
        async for attempt in Retry(on=OSError, within=5).attempts():
            await colour.sleep(4)
            with attempt:
                await colour.sleep(2)
    assert colour.clock.now() == 5.0
    assert caught.value.seconds == 5.0


@async_colours
async def test_a_cancelled_block_ends_cancelled(colour: Colour) -> None:
    """A caller's cancellation in a block or between two is not retried."""
    rounds: list[int] = []

    async def caller(hangs: bool) -> None:
        async for attempt in Retry(on=Exception, backoff=1000).attempts():
            with attempt:
                rounds.append(attempt.number)
                if hangs:
                    await colour.gate().wait()
                raise OSError

    for hangs in (True, False):
        rounds.clear()
        job = colour.start(caller, hangs)
        await colour.until(lambda: rounds)
        await colour.sleep(1)
        job.cancel()
        assert isinstance(await job.outcome(), asyncio.CancelledError | trio.Cancelled)
        assert rounds == [1]


# --- next_wait --------------------------------------------------------------------------------------------------------


@every_colour
async def test_next_wait_tells_what_comes(colour: Colour) -> None:
    """While an attempt runs, `next_wait` is what will be waited if it fails; afterwards, what is; None for the last."""
    told: list[Any] = []
    drawn = iter([0.25, 0.75, 0.5])
    retry = Retry(on=OSError, backoff=lambda number, previous, u: number + u, rng=lambda: next(drawn))
    kept: list[Any] = []
    with pytest.raises(OSError):
        async for attempt in attempts_of(colour, retry):
            kept.append(attempt)
            told.append(attempt.next_wait)
            with attempt:
                told.append(attempt.next_wait)
                raise OSError
    assert told == [1.25, 1.25, 2.75, 2.75, None, None]
    assert colour.clock.sleeps == [1.25, 2.75]
    assert [attempt.next_wait for attempt in kept] == [1.25, 2.75, None]


@every_colour
async def test_next_wait_knows_the_deadlines(colour: Colour) -> None:
    """Where the next attempt could only begin at a deadline, none is announced."""
    async for attempt in attempts_of(colour, Retry(on=OSError, within=5, backoff=2)):
        with attempt:
            assert attempt.next_wait == 2.0
            await colour.sleep(3)
            assert attempt.next_wait is None
    with context.deadline(2):
        async for attempt in attempts_of(colour, Retry(on=OSError, backoff=2)):
            with attempt:
                assert attempt.next_wait is None


@every_colour
async def test_next_wait_after_a_hint_or_a_success(colour: Colour) -> None:
    """A hint lengthens what is waited in the end, and after a success nothing is waited for."""
    kept: list[Any] = []
    async for attempt in attempts_of(colour, Retry(on=Throttled, backoff=1)):
        kept.append(attempt)
        with attempt:
            assert attempt.next_wait == 1.0
            if attempt.number == 1:
                raise Throttled("t", 7.0)
    assert [attempt.next_wait for attempt in kept] == [7.0, None]


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_attempts_serve_one_loop() -> None:
    """The attempts of one run cannot be iterated again, neither in the same way nor in the other."""
    attempts = Retry(on=OSError).attempts()
    for attempt in attempts:
        with attempt:
            pass
    for again in (iter, aiter):  # type: ignore[assignment]
        with pytest.raises(RuntimeError, match=r"attempts\(\) serves one loop: call it again for the next"):
            again(attempts)


def test_an_attempt_is_one_block() -> None:
    """An attempt cannot be entered twice, not while it runs and not later."""
    retry = Retry(on=OSError, backoff=0)
    clock = VirtualClock()
    for attempt in retry.replace(clock=clock, within=5).attempts():
        with attempt:
            with pytest.raises(RuntimeError, match="an attempt is one block: let the loop go round for the next"):
                attempt.__enter__()
            assert context.remaining() == 5.0
    with pytest.raises(RuntimeError, match="an attempt is one block"), attempt:
        pass
    assert context.remaining() is None


@every_colour
async def test_a_loop_without_its_block_is_an_error(colour: Colour) -> None:
    """A loop whose body has no `with attempt:` would retry nothing, so it is told what to write."""
    rounds = 0
    with pytest.raises(RuntimeError, match="the attempt was not made: write `with attempt:` round what is to be tried"):
        async for _ in attempts_of(colour, Retry(on=OSError)):
            rounds += 1
    assert rounds == 1


@pytest.mark.parametrize("entry", ["__aenter__", "__aexit__"])
def test_async_with_attempt_is_an_error(entry: str) -> None:
    """An attempt is entered by a plain `with`, in `async for` too, and says so."""
    attempt = next(Retry(on=OSError).attempts())
    with pytest.raises(TypeError, match="a plain `with attempt:`, in `async for` too"):
        getattr(attempt, entry)(*[None] * (3 * (entry == "__aexit__"))).send(None)


@async_colours
async def test_async_with_attempt_is_told_what_to_write(colour: Colour) -> None:
    """The mistake as it would be written."""
    with pytest.raises(TypeError, match="a plain `with attempt:`"):
        async for attempt in Retry(on=OSError).attempts():
            async with attempt:
                pass


def test_a_block_by_hand() -> None:
    """Attempts can be asked for by `next`, which begins the run."""
    clock = VirtualClock()
    attempts = Retry(on=OSError, backoff=3, clock=clock).attempts()
    for _ in range(2):
        with next(attempts):
            raise OSError
    with next(attempts):
        pass
    with pytest.raises(StopIteration):
        next(attempts)
    assert clock.sleeps == [3.0, 3.0]


def test_an_async_block_by_hand() -> None:
    """On a loop they can be asked for by `anext`, which begins a run whose blocks are cut."""

    async def main() -> None:
        attempts = Retry(on=OSError, backoff=0).attempts()
        with await anext(attempts):
            raise OSError
        with await anext(attempts):
            pass
        with pytest.raises(StopAsyncIteration):
            await anext(attempts)

    asyncio.run(main())


@every_colour
async def test_attempts_of_many_callers_share_nothing(colour: Colour) -> None:
    """Blocks of one policy that run at once have their own numbers and waits."""
    retry = Retry(on=OSError, backoff=1, attempts=5)

    def caller(failures: int) -> Any:
        async def run() -> int:
            async for attempt in attempts_of(colour, retry):
                with attempt:
                    if attempt.number <= failures:
                        raise OSError
            return attempt.number

        return run

    assert await colour.together(*[caller(failures) for failures in (0, 1, 2, 3, 4)]) == [1, 2, 3, 4, 5]
