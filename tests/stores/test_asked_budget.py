"""Retries and hedges in coroutines await a budget that is in a store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from resilience import Hedge, Retry, RetryBudget
from resilience.events import AttemptFailed, BudgetExhausted, CallSucceeded, RetryGaveUp, RetryScheduled
from resilience.stores import MemoryStore, RedisStore
from tests.colours import Colour, async_colours
from tests.stores.servers import Server


class Slow(MemoryStore):
    """Takes a while to answer a coroutine, and will not be asked by a plain call."""

    __slots__ = ("answered", "asked", "clock", "seconds")

    def __init__(self, colour: Colour, seconds: float = 1.0) -> None:
        super().__init__(clock=colour.clock.now)
        self.clock = colour.clock
        self.seconds = seconds
        self.asked: list[str] = []
        self.answered = 0

    def ask(self, *question: Any, **options: Any) -> Any:
        raise AssertionError("a coroutine asked the store in plain form")

    async def ask_async(self, *question: Any, **options: Any) -> Any:
        self.asked.append(question[2])
        await self.clock.sleep_async(self.seconds)
        self.answered += 1
        return super().ask(*question, **options)


def budget_in(store: Any, **terms: Any) -> RetryBudget:
    given: dict[str, Any] = {"ratio": 0.0, "per_second": 0.0, "capacity": 3, **terms}
    return RetryBudget(**given, store=store, name="db")


@pytest.fixture(params=["call", "decorator"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- retries ----------------------------------------------------------------------------------------------------------


@async_colours
@pytest.mark.parametrize("heard", [False, True])
async def test_the_loop_goes_on_while_the_budget_is_asked(colour: Colour, form: str, heard: bool) -> None:
    """Ten calls that fail at once are retried after one answer's time, not ten, and the bucket bounds them together."""
    store = Slow(colour)
    retry = Retry(on=OSError, attempts=2, backoff=0, budget=budget_in(store))
    if heard:
        retry.listen(lambda _: None)
    fetches = [colour.function([OSError("down"), "page"]) for _ in range(10)]

    def caller(fetch: Any) -> Any:
        async def make() -> Any:
            return await colour.call(retry, fetch, form=form)

        return make

    ends = await colour.together(*map(caller, fetches))
    assert ends.count("page") == 3
    assert store.asked.count("withdraw") == 10
    assert colour.clock.now() <= 2.0


@async_colours
@pytest.mark.parametrize("on_result", [False, True])
@pytest.mark.parametrize("within", [None, 60])
async def test_an_empty_budget_ends_a_retry(colour: Colour, form: str, on_result: bool, within: float | None) -> None:
    """The real error is raised when there is no token, after the events that a budget of this process has, too."""
    budget = budget_in(Slow(colour), capacity=1)
    bad: Any = "bad" if on_result else OSError("down")
    retry = Retry(
        on=OSError,
        on_result=(lambda result: result == "bad") if on_result else None,
        on_exhausted="return",
        attempts=5,
        within=within,
        backoff=0,
        budget=budget,
    )
    heard: list[Any] = []
    retry.listen(heard.append)
    budget.listen(heard.append, BudgetExhausted)
    fetch = colour.function([bad, bad])
    if on_result:
        assert await colour.call(retry, fetch, form=form) == "bad"
    else:
        with pytest.raises(OSError, match="down"):
            await colour.call(retry, fetch, form=form)
    kinds = [AttemptFailed, RetryScheduled, AttemptFailed, BudgetExhausted, RetryGaveUp]
    assert [type(event) for event in heard] == kinds
    assert heard[1].attempt == 2 and heard[-1].reason == "budget" and heard[-1].attempts == 2


@async_colours
async def test_what_ends_without_a_token_asks_for_none(colour: Colour, form: str) -> None:
    """Neither the last attempt, nor an error that is not named, nor a delay past the deadline is a question."""
    store = Slow(colour)
    cases: list[tuple[list[Exception], dict[str, Any]]] = [
        ([OSError("down")], {"attempts": 1}),
        ([ValueError("wrong")], {}),
        ([OSError("down")], {"within": 5, "backoff": 9}),
    ]
    for script, settings in cases:
        retry = Retry(on=OSError, budget=budget_in(store), **settings)
        with pytest.raises((OSError, ValueError)):
            await colour.call(retry, colour.function(script), form=form)
    assert store.asked == []


@async_colours
async def test_an_answer_that_comes_too_late_ends_the_call(colour: Colour, form: str) -> None:
    """Where the question took the time that the delay had, the error of the attempt is raised without a wait."""
    retry = Retry(on=OSError, within=5, backoff=3, budget=budget_in(Slow(colour, 4.0)))
    with pytest.raises(OSError, match="down"):
        await colour.call(retry, colour.function([OSError("down")]), form=form)
    assert colour.clock.now() == 4.0


@async_colours
async def test_a_result_in_time_is_not_lost_to_its_deposit(colour: Colour, form: str) -> None:
    """The deposit is brought after `within` is over and done with, and told before it."""
    store = Slow(colour, 9.0)
    retry = Retry(on=OSError, within=5, budget=budget_in(store, ratio=1.0))
    heard: list[float] = []
    retry.listen(lambda event: heard.append(event.at), CallSucceeded)
    assert await colour.call(retry, colour.function([(4.0, "page")]), form=form) == "page"
    assert store.asked == ["deposit"] and store.answered == 1
    assert heard == [4.0]


@async_colours
async def test_a_retry_cancelled_during_its_question(colour: Colour) -> None:
    """No further attempt is made, nothing stays behind in the context, and deposits that went along are kept."""
    store = Slow(colour, 0.5)
    budget = budget_in(store, ratio=1.0)
    retry = Retry(on=OSError, attempts=3, within=60, backoff=0, budget=budget)
    fetch = colour.function([OSError("down")])

    async def call() -> Any:
        return await colour.call(retry, fetch)

    await budget.deposit_async()
    await budget.deposit_async()
    job = colour.start(call)
    await colour.until(lambda: store.asked[-1] == "withdraw")
    job.cancel()
    assert isinstance(await job.outcome(), (asyncio.CancelledError, trio.Cancelled))
    assert len(fetch.calls) == 1 and store.answered == 1
    assert vars_of(budget) == 1


def vars_of(budget: Any) -> int:
    """Deposits that are still to be brought."""
    return int(budget._kept)


# --- hedges -----------------------------------------------------------------------------------------------------------


async def credited(colour: Colour, hedge: Hedge, times: int = 1) -> None:
    """Calls that earn copies."""
    for _ in range(times):
        await colour.call(hedge, colour.function(["page"]))


@async_colours
async def test_a_copy_waits_for_its_token_and_nothing_else_does(colour: Colour) -> None:
    """The copy is sent when the answer has come; an answer of the call itself before that does not wait for it."""
    store = Slow(colour)
    hedge = Hedge(max_extra_load=1.0, after=1, budget=budget_in(store))
    await credited(colour, hedge, 3)
    begun = colour.clock.now()
    fetch = colour.function([(9.0, "late"), (1.0, "copy")])
    assert await colour.call(hedge, fetch) == "copy"
    assert [moment - begun for moment in fetch.times] == [0.0, 2.0]

    heard: list[float] = []
    hedge.listen(lambda event: heard.append(event.at - begun), CallSucceeded)
    begun = colour.clock.now()
    assert await colour.call(hedge, colour.function([(1.5, "first")])) == "first"
    assert heard == [1.5]
    assert store.asked[-2:] == ["withdraw", "deposit"]


@async_colours
async def test_a_refused_copy_is_not_sent(colour: Colour) -> None:
    """Without a token there is no copy and the credit comes back; when the call then fails, its error is raised."""
    store = Slow(colour)
    hedge = Hedge(max_extra_load=1.0, after=1, budget=budget_in(store, capacity=1))
    await credited(colour, hedge, 3)
    await colour.call(hedge, colour.function([(9.0, "late"), "copy"]))
    credit = hedge.snapshot()["credit"]
    assert await colour.call(hedge, colour.function([(9.0, "late")])) == "late"
    assert hedge.snapshot()["credit"] >= credit
    with pytest.raises(OSError, match="down"):
        await colour.call(hedge, colour.function([OSError("down")]))


@async_colours
async def test_copies_after_failures_are_numbered_as_they_are_sent(colour: Colour) -> None:
    """A failure while a question for a late copy is under way asks once more, and the last error ends the race."""
    store = Slow(colour)
    hedge = Hedge(max_extra_load=1.0, after=1, copies=2, budget=budget_in(store))
    await credited(colour, hedge, 5)
    told: list[Any] = []
    hedge.listen(told.append)
    fetch = colour.function([(1.5, OSError("1")), (3.0, OSError("2")), OSError("3")])
    with pytest.raises(OSError, match="2"):
        await colour.call(hedge, fetch)
    assert [(event.copy, event.reason) for event in told] == [(1, "late"), (2, "failed")]
    assert store.asked.count("withdraw") == 2


@async_colours
async def test_a_hedge_cancelled_during_its_question_keeps_its_credit(colour: Colour) -> None:
    """What the copy would have cost the hedge is there to be spent, and no copy is sent."""
    store = Slow(colour)
    hedge = Hedge(max_extra_load=1.0, after=1, budget=budget_in(store))
    await credited(colour, hedge, 3)
    credit = hedge.snapshot()["credit"]
    fetch = colour.function([(9.0, "late")])

    async def call() -> Any:
        return await colour.call(hedge, fetch)

    store.asked.clear()
    job = colour.start(call)
    await colour.sleep(1.5)
    assert store.asked == ["withdraw"]
    job.cancel()
    await job.outcome()
    assert len(fetch.calls) == 1 and hedge.snapshot()["credit"] >= credit


# --- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def patient(frail: Server) -> Iterator[RedisStore]:
    """A store on a server of its own, which can be stopped for a while."""
    made = RedisStore.from_url(frail.url, timeout=5.0)
    yield made
    made.close()


@pytest.mark.parametrize("run", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["retry", "hedge"])
def test_the_loop_runs_while_a_server_is_silent(run: str, kind: str, frail: Server, patient: RedisStore) -> None:
    """A server that answers late holds up the call that asks, and no other task of the loop."""
    budget = budget_in(patient)
    policy: Any = Retry(on=OSError, backoff=0, budget=budget)
    if kind == "hedge":
        policy = Hedge(max_extra_load=1.0, after=9, budget=budget)
    outcomes: list[Any] = [OSError("down"), "page"]
    sleep: Any = asyncio.sleep if run == "asyncio" else trio.sleep
    ticks = 0

    @policy  # type: ignore[untyped-decorator, unused-ignore]
    async def fetch() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            frail.pause()
            raise outcome
        return outcome

    async def tick() -> None:
        nonlocal ticks
        for _ in range(4):
            await sleep(0.005)
            ticks += 1
        frail.go_on()

    async def with_asyncio() -> Any:
        other = asyncio.create_task(tick())
        page = await fetch()
        await other
        await patient.close_async()
        return page

    async def with_trio() -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            return await fetch()

    guard = threading.Timer(8.0, frail.go_on)
    guard.start()
    try:
        page = asyncio.run(with_asyncio()) if run == "asyncio" else trio.run(with_trio)
    finally:
        guard.cancel()
    assert page == "page" and ticks == 4 and not outcomes
