"""What a hedge promises in plain code, asyncio and trio: when a copy is sent, who wins, and what is raised."""

from __future__ import annotations

import contextvars
import json
import math
from datetime import timedelta
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Hedge,
    Pipeline,
    Rejected,
    ResultNotAccepted,
    Retry,
    RetryBudget,
    context,
)
from resilience.events import BudgetExhausted, CallSucceeded, Event, HedgeStarted, HedgeWon
from tests.colours import Colour, every_colour


def hedge(**changes: Any) -> Hedge:
    """A hedge that sends a copy after a second, of every call if need be."""
    return Hedge(**{"after": 1, "max_extra_load": 1.0, "name": "hedge", **changes})


def rich(**changes: Any) -> Hedge:
    """A hedge that has saved up as many copies as it may."""
    policy = hedge(**changes)
    for _ in range(10):
        policy._began()
    return policy


class Full(Rejected):
    """A call that was not made."""


FORMS = ("call", "decorator")

# --- who wins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_a_call_that_is_answered_in_time_is_made_once(colour: Colour, form: str) -> None:
    """No copy is sent of a call that ends before it is due; arguments and result are as they are."""
    fetch = colour.function([(0.5, "page")])
    assert await colour.call(hedge(), fetch, "/", form=form) == "page"
    assert fetch.calls == [("/",)]
    assert colour.clock.now() == 0.5


@pytest.mark.parametrize("form", FORMS)
@every_colour
async def test_a_late_call_is_sent_again_and_the_first_answer_wins(colour: Colour, form: str) -> None:
    """The copy is sent when the call is late, with the same arguments, and answers before the call itself."""
    fetch = colour.function([(10, "late"), (0.5, "copy")])
    assert await colour.call(hedge(), fetch, "/", form=form) == "copy"
    assert fetch.calls == [("/",)] * 2
    assert fetch.times == [0.0, 1.0]
    assert colour.clock.now() == 1.5


@every_colour
async def test_the_call_itself_may_still_win(colour: Colour) -> None:
    """A copy that is slower than the call is only extra load."""
    fetch = colour.function([(1.5, "call"), (10, "copy")])
    assert await colour.call(hedge(), fetch) == "call"
    assert colour.clock.now() == 1.5


@every_colour
async def test_several_copies_are_sent_one_delay_after_the_other(colour: Colour) -> None:
    """Each copy waits for the one before it; there are never more than `copies`."""
    fetch = colour.function([(50, "call"), (50, "first"), (50, "second"), (0.5, "third")])
    assert await colour.call(rich(copies=3, after=timedelta(seconds=2)), fetch) == "third"
    assert fetch.times == [0.0, 2.0, 4.0, 6.0]
    assert colour.clock.now() == 6.5


@every_colour
async def test_with_a_delay_of_zero_all_are_sent_at_once(colour: Colour) -> None:
    """`after=0` is a race from the start."""
    fetch = colour.function([(5, "call"), (3, "copy")])
    assert await colour.call(hedge(after=0), fetch) in {"call", "copy"}
    assert fetch.times == [0.0, 0.0]
    assert colour.clock.now() == 3.0


@every_colour
async def test_the_delay_is_learnt_from_the_answers(colour: Colour) -> None:
    """Without `after`, a copy is sent when the call is later than nearly all were; before that is known, never."""
    policy = Hedge(max_extra_load=0.1)
    fetch = colour.function([*[(1, n) for n in range(9)], (40, "unknown"), (50, "late"), (2, "copy")])
    for n in range(9):
        assert await colour.call(policy, fetch) == n
    assert policy.snapshot()["after"] is None
    assert await colour.call(policy, fetch) == "unknown"
    started = colour.clock.now()
    assert policy.snapshot()["after"] == 40.0
    assert await colour.call(policy, fetch) == "copy"
    assert colour.clock.now() - started == 42.0


# --- failures ---------------------------------------------------------------------------------------------------------


@every_colour
async def test_a_failed_attempt_sends_the_next_copy_at_once(colour: Colour) -> None:
    """An error that `on` names is no reason to wait any longer."""
    fetch = colour.function([(0.25, OSError()), (0.25, "copy")])
    assert await colour.call(hedge(on=OSError), fetch) == "copy"
    assert fetch.times == [0.0, 0.25]


@every_colour
async def test_after_a_failure_the_next_delay_counts_from_the_copy(colour: Colour) -> None:
    """A copy that was sent early is given its whole time before the next."""
    fetch = colour.function([(0.5, OSError()), (50, "slow"), (0.25, "second")])
    assert await colour.call(rich(copies=2), fetch) == "second"
    assert fetch.times == [0.0, 0.5, 1.5]


@every_colour
async def test_when_all_fail_the_last_error_is_raised(colour: Colour) -> None:
    """The error that came last is raised: the same object, with its own traceback, and nothing added."""
    errors = [OSError("first"), OSError("second"), OSError("third")]
    with pytest.raises(OSError) as caught:
        await colour.call(rich(copies=2), colour.function(errors))
    assert caught.value is errors[2]
    frames = [entry.name for entry in caught.traceback]
    assert frames[-1] == "_do"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert not hasattr(caught.value, "__notes__")


@every_colour
async def test_a_failed_copy_leaves_the_others_their_chance(colour: Colour) -> None:
    """As long as one is under way, an error is not the end."""
    fetch = colour.function([(3, "call"), (1, OSError("copy"))])
    assert await colour.call(hedge(), fetch) == "call"
    assert colour.clock.now() == 3.0


@every_colour
async def test_an_error_that_is_not_named_is_raised_at_once(colour: Colour) -> None:
    """What `on` does not name, or `ignore` does, no copy can mend."""
    for policy in (
        hedge(on=OSError),
        hedge(ignore=ArithmeticError),
        hedge(on=lambda error: isinstance(error, OSError)),
    ):
        error = ZeroDivisionError()
        fetch = colour.function([(50, "late"), (0.5, error)])
        started = colour.clock.now()
        with pytest.raises(ZeroDivisionError) as caught:
            await colour.call(policy, fetch)
        assert caught.value is error
        assert colour.clock.now() - started == 1.5


@every_colour
async def test_results_may_be_refused(colour: Colour) -> None:
    """A result that `on_result` refuses sends the next copy at once; when all are refused, that is raised."""
    policy = rich(on_result=lambda result: result == "stale", copies=2)
    fetch = colour.function([(0.5, "stale"), (0.5, "fresh")])
    assert await colour.call(policy, fetch) == "fresh"
    assert fetch.times == [0.0, 0.5]
    with pytest.raises(ResultNotAccepted) as caught:
        await colour.call(policy, colour.function([(0.5, "stale"), ...]))
    assert (caught.value.last_result, caught.value.attempts, caught.value.elapsed) == ("stale", 3, 1.5)
    assert caught.value.policy == "hedge"


@every_colour
async def test_of_refused_results_and_errors_the_last_counts(colour: Colour) -> None:
    """When the last copy failed, its error is raised; when it returned, that its result was not accepted."""
    policy = hedge(on_result=lambda result: result == "stale")
    with pytest.raises(OSError):
        await colour.call(policy, colour.function(["stale", OSError()]))
    with pytest.raises(ResultNotAccepted):
        await colour.call(policy, colour.function([OSError(), "stale"]))


@every_colour
async def test_a_wrong_predicate_is_raised_as_what_it_is(colour: Colour) -> None:
    """A predicate that answers nonsense, or raises, is a mistake that is shown, while a copy is under way too."""
    with pytest.raises(TypeError, match="on_result"):
        await colour.call(hedge(on_result=lambda _: "yes"), colour.function([(5, "call"), (1, "copy")]))
    with pytest.raises(ZeroDivisionError):
        await colour.call(hedge(on=lambda _: 1 // 0 > 0), colour.function([(5, "call"), (1, OSError())]))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@every_colour
async def test_what_is_no_exception_passes_through(colour: Colour, kind: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit end the race whatever else is under way, and are no part of any group."""
    error = kind()
    with pytest.raises(kind) as caught:
        await colour.call(hedge(), colour.function([(50, "late"), (0.5, error)]))
    assert caught.value is error
    assert colour.clock.now() == 1.5


# --- rejections -------------------------------------------------------------------------------------------------------


@every_colour
async def test_a_rejected_copy_is_dropped(colour: Colour) -> None:
    """A copy that was refused inside neither ends the race nor sends another."""
    fetch = colour.function([(5, "call"), Full("inner"), (50, "second")])
    assert await colour.call(rich(copies=2), fetch) == "call"
    assert fetch.times == [0.0, 1.0, 2.0]
    assert colour.clock.now() == 5.0


@every_colour
async def test_a_rejection_is_raised_when_nothing_else_is_left(colour: Colour) -> None:
    """The rejection of the only call is raised at once; beside a real error it is the error that is raised."""
    fetch = colour.function([Full("inner", 7)])
    with pytest.raises(Full) as caught:
        await colour.call(hedge(), fetch)
    assert caught.value.retry_after == 7
    with pytest.raises(OSError):
        await colour.call(hedge(), colour.function([(5, OSError()), Full("inner")]))
    with pytest.raises(OSError):
        await colour.call(hedge(), colour.function([OSError(), (5, Full("inner"))]))


@every_colour
async def test_a_rejection_that_is_named_is_a_failure(colour: Colour) -> None:
    """`on` may name a rejection by its type; then it sends a copy like any other error."""
    fetch = colour.function([Full("inner"), "copy"])
    assert await colour.call(hedge(on=(OSError, Full)), fetch) == "copy"


@every_colour
async def test_around_a_gate(colour: Colour) -> None:
    """Each copy asks the gate inside: a full bulkhead refuses the copy, and an open circuit the call."""
    bulkhead = Bulkhead(1)
    assert await colour.call(Pipeline(hedge(), bulkhead), colour.function([(3, "call")])) == "call"
    assert bulkhead.snapshot()["in_flight"] == 0
    breaker = CircuitBreaker(1)
    breaker.open()
    with pytest.raises(CircuitOpen):
        await colour.call(Pipeline(hedge(), breaker), colour.function([]))


# --- what it may cost -------------------------------------------------------------------------------------------------


@every_colour
async def test_credit_starts_at_zero(colour: Colour) -> None:
    """Each call earns a share of a copy; before a whole one is earned none is sent, for failures neither."""
    policy = hedge(max_extra_load=0.25)
    for n in range(3):
        fetch = colour.function([(2, n)])
        assert await colour.call(policy, fetch) == n
    with pytest.raises(OSError):
        await colour.call(hedge(max_extra_load=0.5), colour.function([OSError()]))
    fetch = colour.function([(50, "call"), (0.5, "copy")])
    assert await colour.call(policy, fetch) == "copy"
    assert policy.snapshot() == {"name": "hedge", "kind": "hedge", "after": 1.0, "credit": 0.0}


@every_colour
async def test_with_a_delay_of_zero_the_cap_holds(colour: Colour) -> None:
    """What cannot be paid for is not asked for again and again while the call is under way."""
    policy = hedge(after=0, max_extra_load=0.1)
    fetch = colour.function([(1, "page"), ...])
    for _ in range(40):
        assert await colour.call(policy, fetch) == "page"
    assert 40 < len(fetch.calls) <= 44


@every_colour
async def test_an_empty_budget_sends_no_copy_and_fails_no_call(colour: Colour) -> None:
    """A refusal of the budget is told by the budget, costs no credit, and the call goes on."""
    budget = RetryBudget(ratio=0, per_second=0, capacity=1, name="budget")
    policy = hedge(budget=budget)
    told: list[Event] = []
    budget.listen(told.append)
    assert await colour.call(policy, colour.function([(50, "call"), (1, "copy")])) == "copy"
    assert await colour.call(policy, colour.function([(3, "call")])) == "call"
    error = OSError()
    with pytest.raises(OSError) as caught:
        await colour.call(policy, colour.function([error]))
    assert caught.value is error
    assert told == [BudgetExhausted("budget", "retry_budget", 3.0), BudgetExhausted("budget", "retry_budget", 5.0)]
    assert policy.snapshot()["credit"] == 2.0


@every_colour
async def test_a_success_is_one_deposit(colour: Colour) -> None:
    """A call deposits once in its budget, copies or not; one that fails deposits nothing."""
    budget = RetryBudget(ratio=0.25, per_second=0, capacity=10)
    for _ in range(5):
        budget.withdraw()
    policy = hedge(budget=budget)
    await colour.call(policy, colour.function(["page"]))
    assert budget.snapshot()["level"] == 5.25
    await colour.call(policy, colour.function([(5, "call"), (1, "copy")]))
    assert budget.snapshot()["level"] == 4.5
    with pytest.raises(OSError):
        await colour.call(policy, colour.function([OSError(), OSError()]))
    assert budget.snapshot()["level"] == 3.5


# --- what is told -----------------------------------------------------------------------------------------------------


@every_colour
async def test_events(colour: Colour) -> None:
    """A copy is told when it is sent, with its number and why, and when it wins; so is the success of the call."""
    policy = rich(copies=2)
    told: list[Event] = []
    policy.listen(told.append)
    await colour.call(policy, colour.function([(5, "call"), (0.5, OSError()), (0.25, "copy")]))
    await colour.call(policy, colour.function(["call"]))
    assert told == [
        HedgeStarted("hedge", "hedge", 1.0, copy=1, reason="late"),
        HedgeStarted("hedge", "hedge", 1.5, copy=2, reason="failed"),
        HedgeWon("hedge", "hedge", 1.75, copy=2),
        CallSucceeded("hedge", "hedge", 1.75, attempts=1),
        CallSucceeded("hedge", "hedge", 1.75, attempts=1),
    ]


# --- context ----------------------------------------------------------------------------------------------------------

WHO = contextvars.ContextVar("WHO", default="nobody")


@every_colour
async def test_context_variables_reach_every_copy(colour: Colour) -> None:
    """The call and its copies run in copies of the caller's context, and change nothing of it."""
    seen: list[str] = []

    def look() -> str:
        seen.append(WHO.get())
        WHO.set("changed")
        if len(seen) == 1:
            raise OSError
        return WHO.get()

    async def look_async() -> str:
        return look()

    WHO.set("alice")
    assert await colour.call(hedge(), look_async if colour.is_async else look) == "changed"
    assert seen == ["alice", "alice"]
    assert WHO.get() == "alice"


@every_colour
async def test_a_deadline_reaches_every_copy(colour: Colour) -> None:
    """A copy sees what is left of the deadline around the call."""
    left: list[float | None] = []

    def look() -> None:
        left.append(context.remaining())
        colour.clock.sleep(3 if len(left) == 1 else 0)

    async def look_async() -> None:
        left.append(context.remaining())
        await colour.sleep(3 if len(left) == 1 else 0)

    with context.deadline(10):
        await colour.call(hedge(), look_async if colour.is_async else look)
    assert left == [10.0, 9.0]


@every_colour
async def test_inside_a_retry(colour: Colour) -> None:
    """A retry outside sees one failure where a hedge inside has used up its copies."""
    fetch = colour.function([OSError(), OSError(), OSError(), "page"])
    assert await colour.call(Pipeline(Retry(on=OSError, backoff=5), hedge()), fetch) == "page"
    assert fetch.times == [0.0, 0.0, 5.0, 5.0]


@every_colour
async def test_calls_at_once_share_the_credit_and_nothing_else(colour: Colour) -> None:
    """Ten callers at once each get their own answer."""
    policy = hedge(max_extra_load=0.5)
    fetch = colour.function([(0.5, "page"), ...])

    async def caller() -> Any:
        return await colour.call(policy, fetch)

    assert await colour.together(*[caller] * 10) == ["page"] * 10
    assert policy.snapshot()["credit"] == 5.0


# --- parameters and misuse --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value", "rule", "error"),
    [
        *[
            ("max_extra_load", v, "a number above 0, at most 1", ValueError)
            for v in (0, -0.1, 1.01, math.nan, math.inf)
        ],
        *[("max_extra_load", v, "a number above 0, at most 1", TypeError) for v in (True, "0.05", None)],
        *[("after", v, "a number of seconds, 0 or more", ValueError) for v in (-1, math.nan, math.inf)],
        *[("after", v, "a number of seconds, 0 or more", TypeError) for v in (True, "1")],
        *[("copies", v, "an integer, 1 or more", ValueError) for v in (0, -1)],
        *[("copies", v, "an integer, 1 or more", TypeError) for v in (True, 1.5, math.inf, None, "1")],
        ("on", None, "an exception type, a tuple of them or a predicate", TypeError),
        ("name", "", "a string that is not empty, or None", ValueError),
    ],
    ids=repr,
)
def test_bad_parameters_are_refused(parameter: str, value: Any, rule: str, error: type[Exception]) -> None:
    """The error names the parameter, the rule and the value."""
    with pytest.raises(error) as caught:
        Hedge(**{parameter: value})
    assert str(caught.value) == f"{parameter} must be {rule}, got {value!r}"


@pytest.mark.parametrize(
    ("parameter", "value", "match"),
    [
        ("on", 5, "on must be"),
        ("on", (), "on must name at least one exception type"),
        ("ignore", "OSError", "ignore must be"),
        ("on_result", 5, "on_result must be a predicate"),
        ("clock", 5, "clock must have now"),
        ("budget", 0.1, r"budget must be a RetryBudget or None: write budget=RetryBudget\(0\.1\), got 0\.1"),
        ("budget", "x", r"budget must be a RetryBudget or None: write budget=RetryBudget\(\), got 'x'"),
    ],
)
def test_other_bad_parameters_are_refused(parameter: str, value: Any, match: str) -> None:
    """Matchers, clock and budget are checked, too, and say what to write."""
    with pytest.raises(TypeError, match=match):
        Hedge(**{parameter: value})


def test_everything_is_a_keyword() -> None:
    """There is no first argument."""
    with pytest.raises(TypeError, match="positional"):
        Hedge(0.05)


def test_misuse_says_what_to_write() -> None:
    """A bare decorator, a block, a generator and a coroutine in place of its function are told the right form."""

    def generator() -> Any:
        yield

    async def async_generator() -> Any:
        yield

    async def fetch() -> None:
        return None

    with pytest.raises(TypeError, match=r"write @Hedge\(max_extra_load=0\.05\)"):
        Hedge(generator)
    policy = Hedge()
    with pytest.raises(TypeError, match="Hedge cannot guard a block, which runs once: decorate a function or use call"):
        policy.guard()
    with pytest.raises(TypeError, match="Hedge cannot guard a block"):
        Pipeline(policy).guard()
    with pytest.raises(TypeError, match=r"write with policy\.guard\(\):"), policy:
        pass
    for fn in (generator, async_generator):
        with pytest.raises(
            TypeError, match="Hedge cannot wrap a generator: two of them cannot be yielded from at once"
        ):
            policy(fn)
    with pytest.raises(TypeError, match="call takes the function, not its coroutine"):
        policy.call(fetch())
    with pytest.raises(TypeError, match="call takes a function"):
        policy.call(5)


def test_a_plain_function_that_returns_a_coroutine_is_told_to_use_call_async() -> None:
    """What comes back from the worker is closed, and the error says what to write."""

    async def fetch() -> None:
        return None

    with pytest.raises(TypeError, match="use call_async"):
        Hedge().call(lambda: fetch())


def test_replace_repr_and_snapshot() -> None:
    """A hedge can be looked at and changed into another, with fresh state."""
    policy = Hedge(after=2, max_extra_load=0.5, name="read")
    policy.call(len, "abc")
    assert json.loads(json.dumps(policy.snapshot())) == {"name": "read", "kind": "hedge", "after": 2.0, "credit": 0.5}
    other = policy.replace(after=None)
    assert other.snapshot() == {"name": "read", "kind": "hedge", "after": None, "credit": 0.0}
    assert repr(Hedge(after=2, name="read")).startswith("Hedge(max_extra_load=0.05, after=2, copies=1, on=<class 'Exc")
    with pytest.raises(TypeError, match="Hedge has no parameter 'delay'"):
        policy.replace(delay=1)
