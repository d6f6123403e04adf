"""The laws of a throttle: T1 to T6 and T9, for whoever asks and does not wait.

The model is a token bucket in exact fractions, one for each key and rate. It decides nothing about refusals: it says
what was there, and a grant that takes more than that breaks T1, a refusal of what was there T3. Whose fault a wrong
refusal is, is found out by playing the script again without what should have left no trace: without the earlier
refusals (T6), without the other keys (T9).
"""

from __future__ import annotations

import inspect
from fractions import Fraction
from math import nextafter, ulp

from resilience._checks import number
from resilience.context import Priority
from resilience.rates import Rate, rates_from
from resilience.testing.clock import VirtualClock
from resilience.testing.conformance._search import Broken, Violation
from resilience.testing.conformance._subject import bound, build, is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from typing import Any

    from resilience.testing.conformance._search import Step
    from resilience.testing.conformance._subject import Make

__all__ = ["Level", "ThrottleFacts", "check_cost_above_burst", "check_refunds", "drawn", "play"]

T1 = "T1: in every window [t, t+w], granted <= burst + rate*w"
REFUND = "T1: a refund never gives more than the bucket would hold had those tokens never been taken, and is made once"
T2 = "T2: a clock that stands still or steps back mints nothing"
T3 = "T3: never refuses what is there"
T4 = "T4: sleeping exactly `retry_after` makes the next acquire succeed if nobody else comes meanwhile"
T5 = "T5: a cost above the burst is a ValueError, never a wait"
T6 = "T6: a refusal costs nothing"
T9 = "T9: one key never delays another"


class ThrottleFacts:
    """What the check has to know of the throttle."""

    def __init__(self, make: Make, *, rate: str | Rate | None, burst: float | None) -> None:
        policy = build(make, VirtualClock())
        self.make = make
        given: Any = (rate,)
        headroom: dict[Priority, float] = {}
        if rate is None:
            if not is_ours(policy):
                raise TypeError(f"{type(policy).__name__} does not say its rate: pass rate='100/s' to the check")
            given, headroom = policy._arguments["rates"], policy._arguments["headroom"] or {}
            burst = policy._arguments["burst"]
        rates = rates_from(given)
        main = "calls" if any(each.of == "calls" for each in rates) else rates[0].of
        self.rates = [each for each in rates if each.of == main]
        if burst is not None:
            most = number("burst", burst)
            self.rates = [Rate(each.amount, each.per, burst=most, of=each.of) for each in self.rates]
        self.kept = float(headroom.get(Priority.DEFAULT, headroom.get(Priority.CRITICAL, 0.0)))
        self.burst = min(each.burst for each in self.rates) * (1.0 - self.kept)
        self.forms = [name for name in ("try_acquire", "acquire") if callable(getattr(policy, name, None))]
        takes = {name: inspect.signature(getattr(policy, name)).parameters for name in self.forms}
        self.costs = bool(takes) and all("cost" in each for each in takes.values())
        self.keys = ("a", "b") if takes and all("key" in each for each in takes.values()) else (None,)
        self.at_once = {"max_wait": 0.0} if "max_wait" in takes.get("acquire", ()) else {}
        self.reserves = callable(getattr(policy, "reserve", None))
        line = getattr(policy, "acquire_async", None)
        self.waits = line is not None and "max_wait" in inspect.signature(line).parameters
        self.blocks = bool(self.at_once)
        if not self.forms:
            self.forms = ["call"]

    def times(self) -> list[float]:
        """Seconds to let pass: refill moments, one ulp beside them, and something in between."""
        tokens = [each.per / each.amount for each in self.rates]
        fill = [each.burst * each.per / each.amount for each in self.rates]
        exact = [*tokens, *fill, *(token * 3 for token in tokens)]
        return [*exact, *(nextafter(span, 0.0) for span in exact), *(token / 3 for token in tokens), 0.0, 0.3, 1.0]


class Level:
    """What is in the bucket of one rate, exactly."""

    __slots__ = ("at", "burst", "kept", "level", "per_second")

    def __init__(self, rate: Rate, kept: float) -> None:
        self.per_second = Fraction(rate.amount) / Fraction(rate.per)
        self.burst = self.level = Fraction(rate.burst)
        self.kept = self.burst * Fraction(kept)
        self.at: Fraction | None = None

    def fill(self, now: float | Fraction) -> None:
        """Go on to `now`, never back. The first reading that is seen is where it begins."""
        before = Fraction(now) if self.at is None else self.at
        self.at = max(before, Fraction(now))
        self.level = min(self.burst, self.level + (self.at - before) * self.per_second)

    def due(self, cost: float) -> Fraction:
        """The moment from which on `cost` is there, if nobody takes anything."""
        return (self.at or Fraction(0)) + max(Fraction(0), -self.over(cost)) / self.per_second

    def over(self, cost: float) -> Fraction:
        """What would be left above the part that is kept back."""
        return self.level - self.kept - Fraction(cost)

    def grain(self) -> Fraction:
        """What a float cannot tell from nothing here."""
        return 4 * Fraction(ulp(float(max((self.at or 0) * self.per_second, self.burst))))


def drawn(facts: ThrottleFacts) -> Callable[[random.Random], Step]:
    """What draws a step for this throttle."""
    times = facts.times()
    most = facts.burst
    costs = [1.0, most, most / 2, nextafter(most, 0.0), 1.0, 1.0] if facts.costs else [1.0]
    costs = [cost for cost in costs if 0.0 < cost <= most]

    def draw(rng: random.Random) -> Step:
        match rng.randrange(10):
            case 0 | 1 | 2:
                return "advance", rng.choice(times)
            case 3:
                return "step back", rng.choice(times)
            case 4 | 5:
                return "take all", rng.choice(facts.keys)
            case 6 | 7:
                return "wait as told", rng.choice(facts.forms), rng.choice(facts.keys), rng.choice(costs)
            case _:
                return "take", rng.choice(facts.forms), rng.choice(facts.keys), rng.choice(costs)

    return draw


def play(facts: ThrottleFacts, start: float, script: Sequence[Step]) -> None:
    """Play one script.

    Raises:
        Broken: a law is.
    """
    watch = _Watch(facts, start)
    for step in script:
        watch.do(step)


def check_cost_above_burst(facts: ThrottleFacts) -> None:
    """T5.

    Raises:
        Violation: a cost above the burst is not a ValueError.
    """
    if not facts.costs:
        return
    grain = 4 * ulp(max(each.burst for each in facts.rates))
    for cost in (facts.burst + grain, facts.burst + 1.0, facts.burst * 2.0):
        clock = VirtualClock()
        policy = build(facts.make, clock)
        for form in facts.forms:
            seen: object = "it was answered"
            try:
                getattr(policy, form)(**({"key": "a"} if facts.keys[0] else {}), cost=cost)
            except ValueError:
                continue
            except Exception as error:
                seen = repr(error)
            raise Violation(T5, f"{form}(cost={cost!r}) with a burst of {facts.burst!r}: {seen}")


def check_refunds(facts: ThrottleFacts) -> None:
    """T1, of tokens that were reserved and given back, at once and after a while.

    Raises:
        Violation: giving back creates tokens, or can be done twice.
    """
    slowest = max(rate.burst * rate.per / rate.amount for rate in facts.rates)
    key: dict[str, Any] = {} if facts.keys[0] is None else {"key": facts.keys[0]}
    for seconds in (0.0, slowest / 2, slowest * 2) if facts.reserves else ():
        clock = VirtualClock()
        policy = build(facts.make, clock)
        turn = policy.reserve(**key, **({"cost": facts.burst} if facts.costs else {}))
        clock.advance(seconds)
        script = (f"turn = reserve(cost={facts.burst!r})", f"advance({seconds!r})", "turn.cancel()")
        if turn.cancel() is not True or turn.cancel() is not False:
            raise Violation(REFUND, "the first cancel has to be True and the second False", (*script, script[-1]))
        granted = 0
        cost = min(1.0, facts.burst)
        while granted * cost <= facts.burst and _ask(facts, policy, facts.forms[0], facts.keys[0], cost)[0]:
            granted += 1
        if granted * cost > facts.burst:
            raise Violation(REFUND, f"{granted} calls of cost {cost!r} were granted then", script)


class _Watch:
    """A throttle that is played on, and what is in its buckets."""

    def __init__(self, facts: ThrottleFacts, start: float) -> None:
        self.facts = facts
        self.start = start
        self.clock = VirtualClock(start)
        self.policy = build(facts.make, self.clock)
        self.log = [] if start == 0.0 else [f"clock = VirtualClock({start!r})"]
        self.levels = {key: [Level(rate, facts.kept) for rate in facts.rates] for key in facts.keys}
        self.asked: list[tuple[float, str, str | None, float, bool]] = []

    def do(self, step: Step) -> None:
        match step:
            case ("advance", seconds):
                self.log.append(f"advance({seconds!r})")
                self.clock.advance(seconds)
            case ("step back", seconds):
                to = max(0.0, self.clock.now() - seconds)
                self.log.append(f"clock steps back to {to!r}")
                self.clock._now = to
            case ("take all", key):
                form = self.facts.forms[0]
                for _ in range(min(1000, int(self.facts.burst) + 1)):
                    if self.take(form, key, min(1.0, self.facts.burst))[0] is False:
                        break
            case ("take", form, key, cost):
                self.take(form, key, cost)
            case ("wait as told", form, key, cost):
                granted, retry_after = self.take(form, key, cost)
                if not granted and retry_after is not None and not self.is_stale(key):
                    self.log.append(f"advance({retry_after!r})    # as told")
                    self.clock.advance(retry_after)
                    if not self.take(form, key, cost, judge=False)[0]:
                        law = self.whose_fault()
                        self.broken(T4 if law == T3 else law, f"refused again after a sleep of {retry_after!r} s")
            case _:
                pass

    def take(self, form: str, key: str | None, cost: float, *, judge: bool = True) -> tuple[bool, float | None]:
        now = self.clock.now()
        stale = self.is_stale(key)
        granted, retry_after = _ask(self.facts, self.policy, form, key, cost)
        given = "" if key is None else f"key={key!r}, "
        self.log.append(f"{form}({given}cost={cost!r})    # at {now!r}: {'granted' if granted else 'refused'}")
        self.asked.append((now, form, key, cost, granted))
        levels = self.levels[key]
        for level in levels:
            level.fill(now)
        grain = max(level.grain() for level in levels)
        spare = min(level.over(cost) for level in levels)
        if granted:
            if spare < -grain:
                self.broken(T2 if stale else T1, f"granted with {float(-spare)!r} tokens too few")
            for level in levels:
                level.level -= Fraction(cost)
        elif judge and not stale and spare > grain:
            self.broken(self.whose_fault(), f"refused at {now!r} with {float(spare)!r} tokens more than needed")
        return granted, retry_after

    def is_stale(self, key: str | None) -> bool:
        """Whether the clock reads less than it did when this bucket was asked before."""
        at = self.levels[key][0].at
        return at is not None and self.clock.now() < at

    def whose_fault(self) -> str:
        *before, last = self.asked
        if self.replay([each for each in before if each[4]], last):
            return T6
        if self.replay([each for each in before if each[2] == last[2]], last):
            return T9
        return T3

    def replay(self, asked: Sequence[tuple[float, str, str | None, float, bool]], last: Any) -> bool:
        clock = VirtualClock(self.start)
        policy = build(self.facts.make, clock)
        granted = False
        for now, form, key, cost, _ in (*asked, last):
            clock._now = now
            granted = _ask(self.facts, policy, form, key, cost)[0]
        return granted

    def broken(self, law: str, seen: str) -> None:
        raise Broken(law, seen, self.log)


def _ask(facts: ThrottleFacts, policy: Any, form: str, key: str | None, cost: float) -> tuple[bool, float | None]:
    options: dict[str, Any] = {} if key is None else {"key": key}
    if facts.costs:
        options["cost"] = cost
    if form == "try_acquire":
        return bool(policy.try_acquire(**options)), None
    entered: list[bool] = []
    try:
        if form == "acquire":
            policy.acquire(**options, **facts.at_once)
            return True, None
        bound(policy, lambda: entered.append(True))()
    except Exception as error:
        if entered:
            raise
        retry_after = getattr(error, "retry_after", None)
        return False, retry_after if isinstance(retry_after, int | float) else None
    return True, None
