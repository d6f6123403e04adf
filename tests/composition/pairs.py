"""Every policy around every other one: what each makes of what the other does.

One line per policy says it all: how often it calls what is inside, what it lets out, and what it keeps of it (`PARTS`).
The hundred pairs follow from the ten lines, so they are computed, and every pair is then tried for real, in every
colour (`test_every_pair.py`). The tables in the documentation are printed from the same lines:

    python -m tests.composition.pairs docs/composition.md
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resilience import (
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreaker,
    FailureRate,
    Fallback,
    Hedge,
    LoadShedder,
    Pipeline,
    Retry,
    Throttle,
    Timeout,
)
from resilience.testing import VirtualClock

__all__ = ["PARTS", "Boom", "Part", "Seen", "expected", "page"]


class Boom(Exception):
    """What a failing call raises."""


OK, BOOM, REFUSAL = "ok", "boom", "refusal"
"""How a call can come out of a policy: with a result, with its own error, or not made at all."""


@dataclass(frozen=True)
class Part:
    """One policy as it stands in the table.

    Attributes:
        word: its name in the table.
        make: builds it on a clock, in the simplest form in which it acts.
        shut: brings a fresh one to refuse the next call; None where it refuses none.
        entries: how often it calls what is inside, by what comes out of there.
        replaces: whether it makes a result of an error and of a refusal.
        tells: what it says of itself when a call comes out so, in the words of the table.
        keeps: what its snapshot shows afterwards, by what comes out of there.
        counts: what its snapshot shows of its own refusals.
    """

    word: str
    make: Callable[[Any], Any]
    tells: dict[str, str]
    keeps: Callable[[list[str]], dict[str, Any]] = lambda outs: {}
    shut: Callable[[Any], Any] | None = None
    entries: Callable[[str], int] = lambda out: 1
    replaces: bool = False
    counts: frozenset[str] = frozenset()


def _fail(policy: Any) -> None:
    def fails() -> None:
        raise Boom

    for _ in range(3):
        with contextlib.suppress(Boom):
            policy.call(fails)


def _flood(policy: Any) -> None:
    for _ in range(3):
        policy.report(10.0)
        policy._clock.advance(1.0)


def _hold(policy: Any) -> Any:
    guard = policy.guard()
    guard.__enter__()
    return guard


def _twice_after_an_error(out: str) -> int:
    return 2 if out == BOOM else 1


def _count(outs: list[str], *kinds: str) -> int:
    return sum(out in kinds for out in outs)


PARTS = (
    Part(
        "fallback",
        lambda clock: Fallback(on=Exception, value=OK, clock=clock),
        {OK: "lets it through", BOOM: "replaces it", REFUSAL: "replaces it"},
        replaces=True,
    ),
    Part(
        "timeout",
        lambda clock: Timeout(60, thread=False, clock=clock),
        {OK: "lets it through", BOOM: "lets it through", REFUSAL: "lets it through"},
    ),
    Part(
        "load shedder",
        lambda clock: LoadShedder(clock=VirtualClock()),
        {OK: "place back", BOOM: "place back", REFUSAL: "place back"},
        shut=_flood,
        keeps=lambda outs: {"in_flight": 0},
    ),
    Part(
        "adaptive limit",
        lambda clock: AdaptiveLimit(initial=1, maximum=1, on=Boom, clock=clock),
        {OK: "place back, a sample", BOOM: "place back, overload", REFUSAL: "place back, no sample"},
        shut=_hold,
        keeps=lambda outs: {"in_flight": 0},
    ),
    Part(
        "adaptive throttle",
        lambda clock: AdaptiveThrottle(1, minimum_calls=3, on=Boom, rng=lambda: 0.0, clock=clock),
        {OK: "accepted", BOOM: "not accepted", REFUSAL: "not counted"},
        shut=_fail,
        counts=frozenset({"requests", "rejection"}),
        keeps=lambda outs: {"requests": _count(outs, OK, BOOM), "accepts": _count(outs, OK)},
    ),
    Part(
        "retry",
        lambda clock: Retry(on=Boom, attempts=2, backoff=0, clock=clock),
        {OK: "lets it through", BOOM: "calls again", REFUSAL: "lets it through"},
        entries=_twice_after_an_error,
    ),
    Part(
        "hedge",
        lambda clock: Hedge(max_extra_load=1, after=60, on=Boom, clock=clock),
        {OK: "lets it through", BOOM: "sends a copy", REFUSAL: "lets it through"},
        entries=_twice_after_an_error,
    ),
    Part(
        "circuit breaker",
        lambda clock: CircuitBreaker(FailureRate(calls=10), on=Boom, clock=clock),
        {OK: "a success", BOOM: "a failure", REFUSAL: "neutral"},
        shut=lambda policy: policy.open(),
        keeps=lambda outs: {"calls": _count(outs, OK, BOOM), "failures": _count(outs, BOOM), "trials": 0},
    ),
    Part(
        "throttle",
        lambda clock: Throttle("10/day", clock=clock),
        {OK: "token spent", BOOM: "token spent", REFUSAL: "token spent"},
        shut=lambda policy: policy.acquire(cost=10),
        keeps=lambda outs: {"remaining": 10 - len(outs)},
    ),
    Part(
        "bulkhead",
        lambda clock: Bulkhead(1, clock=clock),
        {OK: "place back", BOOM: "place back", REFUSAL: "place back"},
        shut=_hold,
        keeps=lambda outs: {"in_flight": 0, "queued": 0},
    ),
)


@dataclass
class Seen:
    """What a call through two policies came to.

    Attributes:
        out: how it came out of the outer one.
        calls: how often the function was called.
        outer, inner: how each entry came out, in order, at the outer and at the inner policy.
    """

    out: str
    calls: int
    outer: list[str]
    inner: list[str]


def _through(part: Part, inside: Callable[[], str]) -> tuple[str, list[str]]:
    """Call what is inside as often as the policy does: what comes out, and what each entry came to."""
    outs = [inside()]
    while len(outs) < part.entries(outs[-1]):
        outs.append(inside())
    return (OK if part.replaces else outs[-1]), outs


def expected(outer: Part, inner: Part, call: str) -> Seen:
    """What must be seen: from the two lines alone, without the policies. `call` is a REFUSAL where `inner` refuses."""
    reached, within = [0], list[str]()

    def body() -> str:
        reached[0] += 1
        return call

    def inside() -> str:
        if call == REFUSAL:
            return REFUSAL
        out, outs = _through(inner, body)
        within.extend(outs)
        return out

    out, outs = _through(outer, inside)
    return Seen(out, reached[0], outs, within)


# --- the page ---------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- pairs: printed by tests/composition/pairs.py -->", "<!-- end of pairs -->"


def _cell(outer: Part, inner: Part, call: str) -> str:
    seen = expected(outer, inner, call)
    text = outer.tells[seen.outer[0]]
    if call == BOOM and seen.calls > 1:
        text += f", {seen.calls} calls"
    return text


def _table(call: str) -> list[str]:
    inners = [part for part in PARTS if call != REFUSAL or part.shut]
    lines = [
        "| outside \\ inside | " + " | ".join(inner.word for inner in inners) + " |",
        "|---" * (len(inners) + 1) + "|",
    ]
    for outer in PARTS:
        cells = (_cell(outer, inner, call) + ("" if _works(outer, inner) else " ⚠") for inner in inners)
        lines.append(f"| **{outer.word}** | " + " | ".join(cells) + " |")
    return lines


def _works(outer: Part, inner: Part) -> bool:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return not Pipeline(outer.make(None), inner.make(None)).check()


def page() -> str:
    """The two tables, as they stand in the documentation."""
    return "\n".join(
        [
            BEGIN,
            "",
            "What the outer policy makes of it when the call **fails**, and how many calls that is:",
            "",
            *_table(BOOM),
            "",
            "What the outer policy makes of it when the inner one **refuses**, so that no call is made:",
            "",
            *_table(REFUSAL),
            "",
            END,
        ]
    )


def _put(path: Path) -> None:
    text = path.read_text()
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(head + page() + tail)


if __name__ == "__main__":
    _put(Path(sys.argv[1]))
