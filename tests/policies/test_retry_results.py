"""Retrying results: `on_result`, `ResultNotAccepted`, `on_exhausted`."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import ResultNotAccepted, Retry
from tests.colours import Colour, every_colour


def is_none(result: object) -> bool:
    """What these tests refuse."""
    return result is None


@every_colour
async def test_a_result_that_is_not_good_enough_is_tried_again(colour: Colour) -> None:
    """`on_result` answering True means another attempt, after the backoff's delay."""
    fetch = colour.function([None, None, "page"])
    assert await colour.call(Retry(on_result=is_none, backoff=[1, 2]), fetch) == "page"
    assert colour.clock.sleeps == [1.0, 2.0]


@every_colour
async def test_a_good_result_is_returned_as_it_is(colour: Colour) -> None:
    """The result that is accepted is the object that came."""
    page = object()
    assert await colour.call(Retry(on_result=is_none), colour.function([page])) is page


@every_colour
async def test_each_result_is_shown_once(colour: Colour) -> None:
    """The predicate sees each result once, in order."""
    seen: list[Any] = []

    def judge(result: Any) -> bool:
        seen.append(result)
        return result < 3

    assert await colour.call(Retry(on_result=judge, backoff=0), colour.function([1, 2, 3])) == 3
    assert seen == [1, 2, 3]


@every_colour
async def test_when_no_result_is_accepted_an_error_says_so(colour: Colour) -> None:
    """The error has the last result, the number of attempts, and the seconds from the first one to giving up."""
    fetch = colour.function([(1, "a"), (2, "b"), (3, "c")])
    with pytest.raises(ResultNotAccepted) as caught:
        await colour.call(Retry(on_result=lambda result: True, backoff=10, name="poll"), fetch)
    error = caught.value
    assert (error.policy, error.last_result, error.attempts, error.elapsed) == ("poll", "c", 3, 26.0)
    assert str(error) == "poll: no result accepted after 3 attempts in 26 s; the last was 'c'"
    assert not hasattr(error, "__notes__")
    assert error.__context__ is None


@every_colour
async def test_elapsed_does_not_count_from_the_clocks_origin(colour: Colour) -> None:
    """Seconds are measured from the first attempt, whatever the clock read then."""
    await colour.sleep(1_000_000)
    with pytest.raises(ResultNotAccepted) as caught:
        await colour.call(Retry(on_result=is_none, attempts=1), colour.function([(5, None)]))
    assert (caught.value.attempts, caught.value.elapsed) == (1, 5.0)


@every_colour
async def test_the_last_result_may_be_returned_instead(colour: Colour) -> None:
    """With `on_exhausted="return"` the last result is returned, good enough or not."""
    last = object()
    retry = Retry(on_result=lambda result: True, backoff=0, on_exhausted="return")
    assert await colour.call(retry, colour.function([object(), object(), last])) is last


@every_colour
async def test_on_exhausted_is_about_results_alone(colour: Colour) -> None:
    """Where the last attempt raises, its error is raised, whatever came before and whatever `on_exhausted` says."""
    retry = Retry(on=OSError, on_result=is_none, backoff=0, on_exhausted="return")
    with pytest.raises(OSError, match="last"):
        await colour.call(retry, colour.function([None, None, OSError("last")]))
    assert await colour.call(retry, colour.function([OSError(), OSError(), None])) is None


@every_colour
async def test_errors_and_results_share_the_attempts(colour: Colour) -> None:
    """An attempt that raises and one that returns too little are both attempts."""
    fetch = colour.function([OSError(), None, OSError(), "page"])
    retry = Retry(on=OSError, on_result=is_none, attempts=4, backoff=1)
    assert await colour.call(retry, fetch) == "page"
    assert colour.clock.sleeps == [1.0, 1.0, 1.0]


@every_colour
async def test_with_on_result_alone_no_error_is_retried(colour: Colour) -> None:
    """A retry that was told of results only lets every error through."""
    with pytest.raises(OSError):
        await colour.call(Retry(on_result=is_none), colour.function([OSError()]))


@every_colour
async def test_results_keep_to_the_deadline(colour: Colour) -> None:
    """`within` ends a retry of results as it ends one of errors, before the sleep."""
    with pytest.raises(ResultNotAccepted) as caught:
        await colour.call(Retry(on_result=is_none, backoff=4, within=10, attempts=99), colour.function([None, ...]))
    assert (caught.value.attempts, caught.value.elapsed) == (3, 8.0)


@pytest.mark.parametrize("judge", [lambda result: "junk", lambda result: 1 // 0], ids=["junk", "raises"])
@every_colour
async def test_a_predicate_of_results_that_fails_is_an_error(colour: Colour, judge: Any) -> None:
    """A predicate that answers junk or raises ends the call, after one attempt."""
    fetch = colour.function(["page"])
    with pytest.raises((TypeError, ZeroDivisionError)):
        await colour.call(Retry(on=Exception, on_result=judge, backoff=0), fetch)
    assert len(fetch.calls) == 1


@every_colour
async def test_a_result_that_is_an_exception_is_a_result(colour: Colour) -> None:
    """An exception that is returned is a value like any other, seen by `on_result` and not by `on`."""
    error = ValueError("returned")

    def fetch() -> Exception:
        return error

    async def fetch_async() -> Exception:
        return error

    retry = Retry(on=ValueError, on_result=lambda result: False)
    assert await colour.call(retry, fetch_async if colour.is_async else fetch) is error
