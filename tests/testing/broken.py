"""Four policies written by hand that keep the laws, and ten that each break one.

They are as somebody would write them who needs one policy and no library: short, and with the least that a check asks
for. Each broken one changes a single method of a good one, so what is caught is the mistake and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf, nextafter
from typing import Any

from resilience import CircuitState, Clock, RetryBudget
from resilience.events import CircuitClosed, CircuitHalfOpened, CircuitOpened, Event


class Refused(Exception):
    """The call was not made."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


# --- circuit breakers -------------------------------------------------------------------------------------------------


class Breaker:
    """Opens after so many failures in a row; one trial after the cooldown, which is its lease as well."""

    def __init__(self, trip: int, *, cooldown: float, clock: Clock) -> None:
        self.trip = trip
        self.cooldown = cooldown
        self._clock = clock
        self._now = CircuitState.CLOSED
        self._failures = 0
        self._opened = 0.0
        self._permit = 0
        self._lease_end = -inf
        self._listeners: list[Callable[[Event], object]] = []

    def listen(self, callback: Callable[[Event], object]) -> None:
        self._listeners.append(callback)

    @property
    def state(self) -> CircuitState:
        if self._now == "open" and self._clock.now() >= self._opened + self.cooldown:
            self.go(CircuitState.HALF_OPEN)
        return self._now

    def go(self, state: CircuitState) -> None:
        previous, self._now = self._now, state
        self._permit += 1
        self._failures = 0
        self._opened = self._clock.now()
        self._lease_end = -inf
        self.tell(previous, state)

    def tell(self, previous: CircuitState, state: CircuitState) -> None:
        at, told = self._clock.now(), {"previous": previous, "state": state}
        if state == "open":
            event: Event = CircuitOpened("mine", "breaker", at, last_error=None, **told)
        elif state == "closed":
            event = CircuitClosed("mine", "breaker", at, **told)
        else:
            event = CircuitHalfOpened("mine", "breaker", at, **told)
        for listener in self._listeners:
            listener(event)

    def admit(self) -> int:
        state, now = self.state, self._clock.now()
        if state == "half_open" and now >= self._lease_end:
            self._permit += 1
            self._lease_end = now + self.cooldown
        elif state != "closed":
            raise Refused
        return self._permit

    def settle(self, permit: int, good: bool | None) -> None:
        lapsed = self._now == "half_open" and self._clock.now() >= self._lease_end
        if permit == self._permit and not lapsed:
            self.count(good)

    def count(self, good: bool | None) -> None:
        if good is None:
            self._lease_end = -inf
        elif self._now == "half_open":
            self.go(CircuitState.CLOSED if good else CircuitState.OPEN)
        elif self._now == "closed":
            self._failures = 0 if good else self._failures + 1
            if self._failures == self.trip:
                self.go(CircuitState.OPEN)

    def call(self, fn: Callable[[], Any]) -> Any:
        permit, good = self.admit(), None
        try:
            result = fn()
        except Exception:
            good = False
            raise
        else:
            good = True
            return result
        finally:
            self.settle(permit, good)

    async def call_async(self, fn: Callable[[], Awaitable[Any]]) -> Any:
        permit, good = self.admit(), None
        try:
            result = await fn()
        except Exception:
            good = False
            raise
        else:
            good = True
            return result
        finally:
            self.settle(permit, good)


class LateResultCounted(Breaker):
    """Whoever comes back is counted, whenever the call was let in."""

    def settle(self, permit: int, good: bool | None) -> None:
        if self._now != "open":
            self.count(good)


class TrialLeakedOnCancel(Breaker):
    """A call that was cancelled is settled by nobody."""

    def settle(self, permit: int, good: bool | None) -> None:
        if good is not None:
            super().settle(permit, good)


class EventTwice(Breaker):
    """Each transition is told twice."""

    def tell(self, previous: CircuitState, state: CircuitState) -> None:
        super().tell(previous, state)
        super().tell(previous, state)


# --- throttles --------------------------------------------------------------------------------------------------------


class Throttle:
    """A token bucket, kept as one number in tokens."""

    def __init__(self, rate: float, burst: float, *, clock: Clock) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._spent = -inf
        self._latest = 0.0

    def now(self) -> float:
        self._latest = max(self._latest, self._clock.now())
        return self._latest

    def take(self, cost: float) -> float:
        """Seconds until it would be granted; 0.0 when it was."""
        if cost > self.burst:
            raise ValueError(f"a cost of {cost} is above the burst of {self.burst}")
        now = self.now()
        spent = max(self._spent, now * self.rate - self.burst)
        if spent + cost <= now * self.rate:
            self._spent = spent + cost
            return 0.0
        wait = (spent + cost) / self.rate - now
        while (now + wait) * self.rate < spent + cost:
            wait = nextafter(max(wait, nextafter(now, inf) - now), inf)
        return wait

    def try_acquire(self, *, cost: float = 1.0) -> bool:
        return self.take(cost) == 0.0

    def acquire(self, *, cost: float = 1.0) -> None:
        wait = self.take(cost)
        if wait:
            raise Refused(wait)


class RefusalConsumes(Throttle):
    """Who is refused has paid nevertheless."""

    def take(self, cost: float) -> float:
        wait = super().take(cost)
        if wait:
            self._spent += cost
        return wait


class IntegerSeconds(Throttle):
    """Time is read in whole seconds."""

    def now(self) -> float:
        return float(int(super().now()))


# --- retries ----------------------------------------------------------------------------------------------------------


class Retry:
    """Retries with exponential backoff and full jitter, within a time, on a budget."""

    def __init__(
        self,
        on: type[Exception],
        *,
        attempts: int,
        clock: Clock,
        rng: Callable[[], float],
        within: float = inf,
        base: float = 1.0,
        cap: float = 8.0,
        budget: RetryBudget | None = None,
    ) -> None:
        self.on = on
        self.attempts = attempts
        self.within = within
        self.budget = budget
        self._clock = clock
        self._rng = rng
        self._base = base
        self._cap = cap

    def delay(self, retry: int, u: float) -> float:
        return u * min(self._cap, self._base * 2.0 ** (retry - 1))

    def fits(self, delay: float, limit: float) -> bool:
        return self._clock.now() + delay < limit

    def paid(self, attempt: int) -> bool:
        """Whether the attempt may be made; the first is free."""
        return attempt == 1 or self.budget is None or self.budget.withdraw()

    def call(self, fn: Callable[[], Any]) -> Any:
        limit = self._clock.now() + self.within
        self.paid(1)
        for attempt in range(1, self.attempts + 1):
            try:
                result = fn()
            except self.on:
                delay = self.delay(attempt, self._rng())
                if attempt == self.attempts or not self.fits(delay, limit) or not self.paid(attempt + 1):
                    raise
            else:
                if self.budget is not None:
                    self.budget.deposit()
                return result
            if delay:
                self._clock.sleep(delay)
        return None


class JitterBeforeCap(Retry):
    """The delay is spread first and capped then, so that at the cap all come back together."""

    def delay(self, retry: int, u: float) -> float:
        return min(self._cap, u * self._base * 2.0 ** (retry - 1))


class SleepsPastTheDeadline(Retry):
    """Whether there is time left is asked before the delay is known."""

    def fits(self, delay: float, limit: float) -> bool:
        return self._clock.now() < limit


class BudgetPerAttempt(Retry):
    """The budget is charged for each attempt, the first included."""

    def paid(self, attempt: int) -> bool:
        return self.budget is None or self.budget.withdraw()


# --- bulkheads --------------------------------------------------------------------------------------------------------


class Bulkhead:
    """So many tasks at a time; the others wait in line."""

    def __init__(self, limit: int, *, queue: int) -> None:
        self.limit = limit
        self.queue = queue
        self._inside = 0
        self._line: deque[asyncio.Future[None]] = deque()

    def next(self) -> asyncio.Future[None]:
        return self._line.popleft()

    def pass_on(self) -> None:
        """A place is free: it goes to the next who still waits."""
        while self._line:
            turn = self.next()
            if not turn.done():
                turn.set_result(None)
                return
        self._inside -= 1

    def went_away(self, turn: asyncio.Future[None]) -> None:
        """A waiter was cancelled, perhaps after its turn had come."""
        if turn.done() and not turn.cancelled():
            self.pass_on()
        elif turn in self._line:
            self._line.remove(turn)

    async def enter(self) -> None:
        if self._inside < self.limit:
            self._inside += 1
            return
        if len(self._line) >= self.queue:
            raise Refused
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self.went_away(turn)
            raise

    async def call_async(self, fn: Callable[[], Awaitable[Any]]) -> Any:
        await self.enter()
        try:
            return await fn()
        finally:
            self.pass_on()


class UnfairQueue(Bulkhead):
    """The last who came is the next."""

    def next(self) -> asyncio.Future[None]:
        return self._line.pop()


class SlotLostInTheGrantTick(Bulkhead):
    """Who is cancelled when its turn has come already takes the place along."""

    def went_away(self, turn: asyncio.Future[None]) -> None:
        if turn in self._line:
            self._line.remove(turn)
