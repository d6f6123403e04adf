"""Every ordered pair of policies, tried for real: the verdict that the outer one sees, places, tokens and events."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from resilience import Pipeline, Rejected
from resilience.events import CallRejected, FallbackUsed, HedgeStarted, RetryScheduled
from tests.colours import Colour, async_colours, every_colour
from tests.composition.pairs import BOOM, OK, PARTS, REFUSAL, Boom, Part, expected, page

gates = [part for part in PARTS if part.shut is not None]
pairs = pytest.mark.parametrize(
    ("outer", "inner"),
    [pytest.param(outer, inner, id=f"{outer.word} around {inner.word}") for outer in PARTS for inner in PARTS],
)


def built(outer: Part, inner: Part, colour: Colour) -> tuple[Any, Any, Any, list[Any]]:
    """A pipeline of two, its parts, and what they tell."""
    parts = outer.make(colour.clock), inner.make(colour.clock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = Pipeline(*parts)
    told: list[Any] = []
    for part in parts:
        part.listen(told.append, CallRejected, FallbackUsed, HedgeStarted, RetryScheduled)
    return pipeline, *parts, told


def keeps(policy: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """What a policy shows, of what is asked for."""
    if "remaining" in wanted:
        return {"remaining": round(policy.peek().remaining, 6)}
    view = policy.snapshot()
    return {key: view[key] for key in wanted}


async def outcome(colour: Colour, pipeline: Any, function: Any) -> str:
    """How a call came out."""
    try:
        assert await colour.call(pipeline, function) == OK
    except Boom:
        return BOOM
    except Rejected:
        return REFUSAL
    return OK


def events_of(outer: Part, inner: Part, outs: list[str], within: list[str]) -> dict[str, int]:
    """How many of each event both must have told."""
    counts = {"FallbackUsed": 0, "RetryScheduled": 0, "HedgeStarted": 0}
    for part, ends in ((outer, outs), (inner, within)):
        if part.replaces:
            counts["FallbackUsed"] += sum(end != OK for end in ends)
        elif part.word == "retry":
            counts["RetryScheduled"] += len(ends) // 2 if BOOM in ends else 0
        elif part.word == "hedge":
            counts["HedgeStarted"] += len(ends) // 2 if BOOM in ends else 0
    return counts


@pytest.mark.parametrize("call", [OK, BOOM])
@pairs
@every_colour
async def test_what_both_make_of_the_call(outer: Part, inner: Part, call: str, colour: Colour) -> None:
    """The call's outcome passes both as their two lines say: what comes out, what each keeps, and what they tell."""
    pipeline, outside, inside, told = built(outer, inner, colour)
    function = colour.function([OK if call == OK else Boom, ...])
    seen = expected(outer, inner, call)
    assert await outcome(colour, pipeline, function) == seen.out
    assert len(function.calls) == seen.calls
    for policy, wanted in ((outside, outer.keeps(seen.outer)), (inside, inner.keeps(seen.inner))):
        assert keeps(policy, wanted) == wanted
    for kind, count in events_of(outer, inner, seen.outer, seen.inner).items():
        assert sum(type(event).__name__ == kind for event in told) == count, kind


@pytest.mark.parametrize("inner", gates, ids=lambda part: part.word)
@pytest.mark.parametrize("outer", PARTS, ids=lambda part: part.word)
@every_colour
async def test_what_the_outer_one_makes_of_a_refusal(outer: Part, inner: Part, colour: Colour) -> None:
    """A refusal is neutral outside: places come back, tokens stay spent, nothing is counted, and no call is made."""
    pipeline, outside, inside, told = built(outer, inner, colour)
    assert inner.shut is not None
    held = inner.shut(inside)
    told.clear()
    before = {key: value for key, value in inside.snapshot().items() if key not in inner.counts}
    function = colour.function([])
    seen = expected(outer, inner, REFUSAL)
    assert await outcome(colour, pipeline, function) == seen.out
    assert function.calls == []
    wanted = outer.keeps(seen.outer)
    assert keeps(outside, wanted) == wanted
    assert inside.snapshot().items() >= before.items()
    refusals = [event for event in told if isinstance(event, CallRejected)]
    assert len(refusals) == len(seen.outer)
    assert {event.policy for event in refusals} == {inside.name}
    del held


@pytest.mark.parametrize("inner", PARTS, ids=lambda part: part.word)
@pytest.mark.parametrize("outer", gates, ids=lambda part: part.word)
@every_colour
async def test_an_outer_refusal_reaches_nobody(outer: Part, inner: Part, colour: Colour) -> None:
    """What is refused outside leaves the inner policy as it was, and makes no call."""
    pipeline, outside, inside, told = built(outer, inner, colour)
    assert outer.shut is not None
    held = outer.shut(outside)
    told.clear()
    before = inside.snapshot()
    function = colour.function([])
    assert await outcome(colour, pipeline, function) == REFUSAL
    assert function.calls == []
    assert inside.snapshot() == before
    assert [(type(event), event.policy) for event in told] == [(CallRejected, outside.name)]
    del held


@pairs
@async_colours
async def test_a_cancelled_call_leaves_nothing_taken(outer: Part, inner: Part, colour: Colour) -> None:
    """Cancelled in flight, a call is made once, counted nowhere, and every place is back."""
    pipeline, outside, inside, told = built(outer, inner, colour)
    begun = colour.gate()
    calls: list[int] = []

    async def hangs() -> str:
        calls.append(1)
        begun.open()
        await colour.sleep(30)
        return OK

    job = colour.start(pipeline(hangs))
    await begun.wait()
    job.cancel()
    assert isinstance(await job.outcome(), BaseException)
    assert calls == [1]
    for policy, part in ((outside, outer), (inside, inner)):
        wanted = part.keeps([REFUSAL])
        assert keeps(policy, wanted) == wanted
    assert told == []


def test_the_documentation_shows_these_tables() -> None:
    """The tables of the page are those that are tested here."""
    text = (Path(__file__).parents[2] / "docs" / "composition.md").read_text()
    assert page() in text, "print them with: python -m tests.composition.pairs docs/composition.md"
