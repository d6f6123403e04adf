"""What a retry tells those who listen, and which attempt it is."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import pytest

import resilience
from resilience import DeadlineExceeded, Fallback, Pipeline, Retry, Throttled, Timeout, context
from resilience._attempt import current_attempt
from resilience._hub import HUB
from resilience.events import AttemptFailed, CallSucceeded, Event, RetryGaveUp, RetryScheduled
from tests.colours import Colour, async_colours, every_colour


def told(policy: Any, *types: type[Event]) -> list[Event]:
    """The events of a policy, as they come."""
    events: list[Event] = []
    policy.listen(events.append, *types)
    return events


def brief(events: list[Event]) -> list[str]:
    """The types of events."""
    return [type(event).__name__ for event in events]


@every_colour
async def test_the_story_of_a_call_that_succeeds_at_last(colour: Colour) -> None:
    """Each failed attempt and each wait is told as it happens, and the success with its attempts."""
    first, second = OSError(1), OSError(2)
    retry = Retry(on=OSError, backoff=[1, 2.5], name="fetch")
    events = told(retry)
    await colour.sleep(10)
    await colour.call(retry, colour.function([(0.5, first), second, "page"]))
    assert events == [
        AttemptFailed("fetch", "retry", 10.5, attempt=1, depth=0, error=first, result=None),
        RetryScheduled("fetch", "retry", 10.5, attempt=2, depth=0, delay=1.0),
        AttemptFailed("fetch", "retry", 11.5, attempt=2, depth=0, error=second, result=None),
        RetryScheduled("fetch", "retry", 11.5, attempt=3, depth=0, delay=2.5),
        CallSucceeded("fetch", "retry", 14.0, attempts=3),
    ]


@every_colour
async def test_the_story_of_a_call_that_fails(colour: Colour) -> None:
    """When attempts run out, the last failure is followed by one `RetryGaveUp` that sums up."""
    last = OSError(2)
    retry = Retry(on=OSError, attempts=2, backoff=4)
    events = told(retry)
    with pytest.raises(OSError):
        await colour.call(retry, colour.function([OSError(1), last]))
    assert brief(events) == ["AttemptFailed", "RetryScheduled", "AttemptFailed", "RetryGaveUp"]
    assert {(event.policy, event.kind) for event in events} == {("retry", "retry")}
    assert events[-1] == RetryGaveUp(
        "retry", "retry", 4.0, attempts=2, depth=0, waited=4.0, reason="attempts", error=last
    )


@every_colour
async def test_the_story_of_results(colour: Colour) -> None:
    """A refused result is told with the result and without an error; giving up on results names no error."""
    retry = Retry(on_result=lambda result: result != "page", attempts=2, backoff=1, on_exhausted="return", name="poll")
    events = told(retry)
    await colour.call(retry, colour.function(["busy", "page"]))
    await colour.call(retry, colour.function(["busy", "gone"]))
    failed = [event for event in events if isinstance(event, AttemptFailed)]
    assert [(event.error, event.result) for event in failed] == [(None, "busy"), (None, "busy"), (None, "gone")]
    assert brief(events)[2] == "CallSucceeded"
    assert events[-1] == RetryGaveUp(
        "poll", "retry", 2.0, attempts=2, depth=0, waited=1.0, reason="attempts", error=None
    )


@pytest.mark.parametrize(
    ("retry", "error", "reason"),
    [
        (Retry(on=OSError, attempts=1), OSError(), "attempts"),
        (Retry(on=OSError, within=1, backoff=1), OSError(), "within"),
        (Retry(on=OSError, backoff=9), OSError(), "deadline"),
        (Retry(on=Throttled), Throttled("t", 61.0), "max_retry_after"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@every_colour
async def test_the_reason_names_the_bound(colour: Colour, retry: Retry, error: Exception, reason: str) -> None:
    """`RetryGaveUp.reason` says which bound ended the call, also after a single attempt."""
    retry = retry.replace()
    events = told(retry)
    with pytest.raises(type(error)), context.deadline(9):
        await colour.call(retry, colour.function([error]))
    assert brief(events) == ["AttemptFailed", "RetryGaveUp"]
    assert events[1].reason == reason  # type: ignore[attr-defined]
    assert events[1].attempts == 1  # type: ignore[attr-defined]


@every_colour
async def test_an_error_that_is_not_retried_is_told_only_where_a_retry_was_promised(colour: Colour) -> None:
    """An unmatched first error is none of the retry's business; a later one ends what had begun."""
    retry = Retry(on=OSError, backoff=1)
    events = told(retry)
    with pytest.raises(KeyError):
        await colour.call(retry, colour.function([KeyError()]))
    assert events == []
    bad = KeyError()
    with pytest.raises(KeyError):
        await colour.call(retry, colour.function([OSError(), bad]))
    assert brief(events) == ["AttemptFailed", "RetryScheduled", "RetryGaveUp"]
    assert events[-1] == RetryGaveUp(
        retry.name, "retry", 1.0, attempts=2, depth=0, waited=1.0, reason="unmatched", error=bad
    )


@every_colour
async def test_a_first_success_is_told(colour: Colour) -> None:
    """Whoever listens hears of the calls that needed no retry too."""
    retry = Retry(on=OSError, name="fetch")
    events = told(retry)
    await colour.call(retry, colour.function(["page"]))
    assert events == [CallSucceeded("fetch", "retry", 0.0, attempts=1)]


@every_colour
async def test_an_interrupt_is_not_told(colour: Colour) -> None:
    """What passes through untouched makes no event."""
    retry = Retry(on=OSError, within=60)
    events = told(retry)
    with pytest.raises(KeyboardInterrupt):
        await colour.call(retry, colour.function([KeyboardInterrupt()]))
    assert events == []


@async_colours
async def test_a_cut_attempt_is_not_told_as_a_failure(colour: Colour) -> None:
    """An attempt that is cut at `within` ends the call by the deadline's error, without an event of its own."""
    retry = Retry(on=OSError, within=5)
    events = told(retry)
    with pytest.raises(DeadlineExceeded):
        await colour.call(retry, colour.function([(10, "never")]))
    assert events == []


# --- depth ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@every_colour
async def test_depth_tells_a_retry_inside_anothers_attempt(colour: Colour) -> None:
    """The outermost retry has depth 0, one inside its attempt 1, whatever stands between them."""
    between = Timeout(60) if colour.is_async else Timeout(60, thread=False)
    outer, inner = Retry(on=OSError, attempts=2, backoff=0), Retry(on=OSError, attempts=2, backoff=0)
    deepest = Retry(on=KeyError, attempts=2, backoff=0)
    outside, inside, within = told(outer), told(inner), told(deepest)
    parts = Pipeline(outer, between, inner, Fallback(on=LookupError, value="page"), deepest)
    await colour.call(parts, colour.function([OSError(), OSError(), KeyError(), "page"]))
    depths = {
        name: {event.depth for event in events if hasattr(event, "depth")}
        for name, events in {"outer": outside, "inner": inside, "deepest": within}.items()
    }
    assert depths == {"outer": {0}, "inner": {1}, "deepest": {2}}
    assert [event.attempt for event in outside if isinstance(event, AttemptFailed)] == [1]


@every_colour
async def test_depth_ends_with_the_attempt(colour: Colour) -> None:
    """A retry that comes after another one is not inside it."""
    first, second = Retry(on=OSError, backoff=0), Retry(on=OSError, backoff=0)
    told(first)
    events = told(second, AttemptFailed)
    for outcome in ("page", KeyError()):
        with suppress(KeyError):
            await colour.call(first, colour.function([OSError(), outcome]))
        await colour.call(second, colour.function([OSError(), "page"]))
    assert [event.depth for event in events] == [0, 0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{"within": 60}, {"on_result": lambda result: False}, {}], ids=str)
@every_colour
async def test_what_is_called_can_ask_which_attempt_it_is(colour: Colour, options: dict[str, Any]) -> None:
    """Code in an attempt can ask for its number and depth; outside of any, and after it, there is none."""
    seen: list[tuple[int, int] | None] = []

    def look() -> None:
        seen.append(current_attempt())
        if len(seen) < 3:
            raise OSError

    async def look_async() -> None:
        look()

    retry = Retry(on=OSError, backoff=1, **options)
    if not options:
        told(retry)
    assert current_attempt() is None
    await colour.call(retry, look_async if colour.is_async else look)
    assert seen == [(1, 0), (2, 0), (3, 0)]
    assert current_attempt() is None


@every_colour
async def test_nobody_pays_for_a_number_that_nobody_needs(colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to bound, judge or tell, the first attempt is not marked; a second one is."""
    monkeypatch.setattr(HUB, "heard", False)
    seen: list[tuple[int, int] | None] = []

    def look() -> None:
        seen.append(current_attempt())
        if len(seen) < 2:
            raise OSError

    async def look_async() -> None:
        look()

    await colour.call(Retry(on=OSError, backoff=0), look_async if colour.is_async else look)
    assert seen == [None, (2, 0)]


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@every_colour
async def test_depth_is_right_from_the_first_failure(colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inner retry knows how deep it is even where its own first attempt was not marked."""
    monkeypatch.setattr(HUB, "heard", False)
    inner = Retry(on=OSError, backoff=0)
    events: list[Event] = []
    stop: list[Any] = []

    def listen_late() -> None:
        if not stop:
            stop.append(inner.listen(events.append, AttemptFailed))
        raise OSError

    async def listen_late_async() -> None:
        listen_late()

    with pytest.raises(OSError):
        await colour.call(
            Pipeline(Retry(on=KeyError, within=60), inner), listen_late_async if colour.is_async else listen_late
        )
    assert [(event.attempt, event.depth) for event in events] == [(1, 1), (2, 1), (3, 1)]  # type: ignore[attr-defined]


# --- listeners --------------------------------------------------------------------------------------------------------


@every_colour
async def test_a_listener_hears_what_it_asked_for(colour: Colour) -> None:
    """A listener may name types; it then hears these and their subclasses only, until it stops."""
    retry = Retry(on=OSError, backoff=0)
    everything, failures = told(retry), told(retry, AttemptFailed, RetryGaveUp)
    stopped: list[Event] = []
    retry.listen(stopped.append)()
    await colour.call(retry, colour.function([OSError(), "page"]))
    assert brief(everything) == ["AttemptFailed", "RetryScheduled", "CallSucceeded"]
    assert brief(failures) == ["AttemptFailed"]
    assert stopped == []


@every_colour
async def test_a_listener_to_all_hears_retries_too(colour: Colour) -> None:
    """`resilience.listen` hears every policy, those built before it and those built after it."""
    events: list[Event] = []
    before = Retry(on=OSError, name="before")
    stop = resilience.listen(events.append, CallSucceeded)
    try:
        after = Retry(on=OSError, name="after")
        for retry in (before, after):
            await colour.call(retry, colour.function(["page"]))
    finally:
        stop()
    await colour.call(before, colour.function(["page"]))
    assert [event.policy for event in events] == ["before", "after"]


@every_colour
async def test_a_listener_that_raises_harms_nobody(colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a listener is reported as unraisable, and changes neither the call nor the next listener."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    retry = Retry(on=OSError, backoff=0)

    def broken(event: Event) -> None:
        raise LookupError("bug")

    retry.listen(broken)
    events = told(retry)
    assert await colour.call(retry, colour.function([OSError(), "page"])) == "page"
    assert brief(events) == ["AttemptFailed", "RetryScheduled", "CallSucceeded"]
    assert [type(report.exc_value) for report in reported] == [LookupError] * 3


@every_colour
async def test_a_listener_may_call_the_policy(colour: Colour) -> None:
    """A listener may use the policy that it listens to."""
    retry = Retry(on=OSError, backoff=0)
    seen: list[Any] = []

    def nested(event: Event) -> None:
        if isinstance(event, AttemptFailed):
            seen.append(retry.call(lambda: "inside"))

    retry.listen(nested)
    assert await colour.call(retry, colour.function([OSError(), "page"])) == "page"
    assert seen == ["inside"]


@every_colour
async def test_a_slow_listener_does_not_make_a_sleep_pass_the_deadline(colour: Colour) -> None:
    """What remains is read after the failure was told, so time that a listener takes is not slept again."""
    retry = Retry(on=OSError, backoff=2, within=5)
    retry.listen(lambda event: colour.clock.advance(4), AttemptFailed)
    with pytest.raises(OSError):
        await colour.call(retry, colour.function([OSError()]))
    assert colour.clock.sleeps == []


@every_colour
async def test_a_blocks_story_is_that_of_a_call(colour: Colour) -> None:
    """`attempts()` tells the same events."""
    retry = Retry(on=OSError, backoff=1)
    events = told(retry)
    if colour.is_async:
        async for attempt in retry.attempts():
            with attempt:
                if attempt.number == 1:
                    raise OSError
    else:
        for attempt in retry.attempts():
            with attempt:
                if attempt.number == 1:
                    raise OSError
    assert brief(events) == ["AttemptFailed", "RetryScheduled", "CallSucceeded"]
