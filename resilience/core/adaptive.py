"""How many calls may be in flight, learnt from how long they take.

Theory of operation
-------------------
Every service has a number of calls that it can work on at the same time. Below it, one more call is one more answer;
above it, one more call is one more in a queue, and everybody waits. By Little's law, calls in flight = throughput *
latency: past that number throughput stands still, and latency grows with the number of calls. So the number shows in
the latency, if one knows what it is without a queue: the *least*. `resilience.core.limits` holds three ways to move the
limit once that is known. Here is how it comes to be known, which is the whole difficulty.

    a window of calls ends
        |
        +-- in a probe ------------- fell with the limit? -- yes: halve again
        |                                                    no:  this is the least; go on from where we were
        +-- at most half was used -- this is the least
        +-- time for a probe ------- halve the limit for one window
        +-- else ------------------- move the limit

*The least must not follow a queue.* A least that is averaged from all latencies, however slowly, learns the queue that
the limit itself has made: then the limit grows, the queue with it, and after a day of steady mild overload both are
anywhere. Nor may it be the minimum ever seen, or a service that has really become slower is throttled for ever. So the
least is learnt from *light* windows only: those in which no more than half of the limit was in flight. A queue that
stands at the limit is gone at half of it, as long as the limit is less than twice what the service can take, and a
limit that rests near that number is far from twice it. So nothing that the limit does can raise the least, while a
change of the service itself is in the next light window as well as in any other.

*Light windows come by themselves* when there is little to do. When there is much, they are made: every 30 s the limit
is halved for one window of about a hundred calls. When the latency falls with the limit, there was a queue, and if it
falls in step, half of it may still be there: halve again. A probe comes sooner, after 5 s, while little is known, and
when the latency is not what it was: that settles whether the service has less room, which makes the latency of the
probe fall, or has become slower, which does not. Where calls are slow or few, a probe takes longer, and comes so much
more seldom: one has a twentieth of the time, or a quarter while little is known.

*Noise.* A window of a hundred calls knows its latency to ten percent or so, and a least that is believed to be ten
percent too low pulls the limit down to nothing, since below its capacity a service does not answer any faster. So a
sample knows its error (`resilience.core.latency`), one and a half of which are added to the least before anything is
compared with it; and it is replaced, rather than averaged, only by what differs from it by more than chance.

*Samples* are of one window: when the limit changes, calls from before are not of the next, and a call whose caller went
away, or which failed for reasons of its own, is of none. Until the first sign of waiting the limit grows by half a
window, as TCP starts; it never grows while less than half of it is used, for then nothing is learnt about more.

Time never runs backwards in here: a reading older than the newest one seen is raised to it.
"""

from __future__ import annotations

from math import exp, inf, log

from resilience.core.latency import Sample, Window
from resilience.core.verdict import FAILURE, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.limits import Algorithm
    from resilience.core.verdict import Verdict

__all__ = ["REFUSED", "ConcurrencyLimit"]

REFUSED = -1
"""What `acquire` returns instead of a permit."""

_CALLS = 100
"""In a window, or as many as the limit where that is more."""

_SHORTEST_WINDOW = 0.25

_PATIENCE = 4.0
"""Mean latencies that a full window waits for its slow calls; then they count as having lasted that long."""

_REMEMBERED = 2000
"""Calls for which the least counts, against new ones."""

_ENOUGH = 500
"""Calls from which on the least is known well."""

_PROBE_EVERY = 30.0
_PROBE_SOON = 5.0

_LONG = 1.5
_FAR = log(_LONG)
"""A factor between two latencies that matters, if it is not chance."""

_IN_VAIN = 0.7
"""A limit that has come down so far since the least was seen, and is still too high, may be measured wrongly."""

_CHANCE = 2.0
"""Standard errors within which a difference may be none."""

_SURE = 3.0
"""Standard errors beyond which what is known is given up for a single window: there are many windows in a day."""


class ConcurrencyLimit:
    """A limit and the calls in flight. Not thread-safe by itself: a policy holds its lock around each call.

    Args:
        algorithm: how the limit moves.
        initial, minimum, maximum: the first limit, and its bounds; `minimum <= initial <= maximum`.

    Attributes:
        limit: how many calls may be in flight, as far as is known; a probe allows fewer.
        in_flight: how many are.
        least: what calls take when nothing waits, or None while nothing is known.
        latest: the newest reading of the clock.
        changes: (previous, new) limits since it was last emptied, in order.
    """

    __slots__ = (
        "_above",
        "_allowed",
        "_before",
        "_climbing",
        "_exact",
        "_first",
        "_known",
        "_light_at",
        "_light_limit",
        "_maximum",
        "_minimum",
        "_probe_at",
        "_probe_took",
        "_recent",
        "_window",
        "algorithm",
        "changes",
        "in_flight",
        "latest",
        "least",
        "limit",
    )

    def __init__(self, algorithm: Algorithm, initial: int, minimum: int, maximum: int) -> None:
        self.algorithm = algorithm
        self.limit = initial
        self.in_flight = 0
        self.least: Sample | None = None
        self.latest = -inf
        self.changes: list[tuple[int, int]] = []
        self._minimum = minimum
        self._maximum = maximum
        self._exact = float(initial)
        self._allowed = initial
        self._climbing = True
        self._known = False
        self._light_at = 0.0
        self._light_limit = 0.0
        self._recent: Sample | None = None
        self._before: Sample | None = None
        self._probe_at = 0.0
        self._probe_took = 0.0
        self._above: Sample | None = None
        self._first = 1
        self._window = Window(self._first, self.latest, 0)

    # --- calls --------------------------------------------------------------------------------------------------------

    def acquire(self, now: float) -> int:
        """A permit for one call, or REFUSED."""
        self._pass(now)
        self._turn()
        if self.in_flight >= self._allowed:
            return REFUSED
        self.in_flight += 1
        window = self._window
        window.peak = max(window.peak, self.in_flight)
        if window.filled is not None:
            return window.permit + 1
        window.out += 1
        return window.permit

    def settle(self, permit: int, verdict: Verdict, elapsed: float, now: float) -> None:
        """Take a permit back.

        Args:
            permit: what `acquire` returned.
            verdict: SUCCESS is a sample of `elapsed` seconds, FAILURE a sign of overload, IGNORED neither.
            elapsed: how long the call took, in seconds.
            now: the reading of the clock.
        """
        self._pass(now)
        if permit < self._first:
            return
        self.in_flight -= 1
        window = self._window
        if permit == window.permit:
            window.out -= 1
            if verdict is SUCCESS:
                window.add(elapsed)
            elif verdict is FAILURE:
                window.lost += 1
        self._turn()

    @property
    def probing(self) -> bool:
        """Whether fewer calls are allowed for the moment, to find out what they take when nothing waits."""
        return self._above is not None

    def forget_calls(self) -> None:
        """Nothing is in flight any more: whatever was admitted before this changes nothing when it ends."""
        self.in_flight = 0
        self._first = self._window.permit + 2
        self._open()

    def take_over(self, calls_of: ConcurrencyLimit) -> None:
        """Take over the calls in flight of another one, in whose place this one is put."""
        self.in_flight = calls_of.in_flight
        self._first = calls_of._first
        self._window.permit = calls_of._window.permit
        self._open()

    # --- windows ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._window = Window(self._window.permit + 2, self.latest, self.in_flight)

    def _pass(self, now: float) -> None:
        if now > self.latest:
            window = self._window
            if window.calls:
                window.busy += self.in_flight * (now - self.latest)
            else:
                window.begin(now, self.in_flight)
            self.latest = now

    def _turn(self) -> None:
        """End the window if it is full and its calls are back."""
        window = self._window
        if window.filled is None:
            if window.calls < max(_CALLS, self._allowed) or self.latest - window.opened < _SHORTEST_WINDOW:
                return
            window.filled = self.latest
        seen = window.sample()
        if window.out:
            waited = self.latest - window.filled
            if waited < _PATIENCE * (window.filled - window.opened if seen is None else seen.mean):
                return
            window.add(waited, window.out)
            seen = window.sample()
        if window.calls:
            self._judge(window, seen)
        self._open()

    def _judge(self, window: Window, seen: Sample | None) -> None:
        used = window.busy / (self.latest - window.opened)
        lost = window.lost / (window.ended + window.lost)
        if self._above is not None:
            self._end_step(self._above, seen)
        elif seen is None:
            self._move(None, lost, used)
        else:
            if window.peak <= self._half(self._allowed):
                self._learn(seen)
            else:
                self._recent = seen if self._recent is None else self._recent.joined(seen, _REMEMBERED)
                if self.least is None:
                    self.least, self._light_at = seen, self.latest
                    if lost:
                        self._move(None, lost, used)
                    return
                if used >= self.limit / 2 and self._wants_probe(seen, self.least):
                    self._begin_probe(seen, self.least)
                    return
            self._move(seen, lost, used)

    # --- the limit ----------------------------------------------------------------------------------------------------

    def _move(self, seen: Sample | None, lost: float, used: float) -> None:
        least = self.least
        if seen is None or least is None:
            limit = self.algorithm.next_limit(self._exact, 1.0, 1.0, lost)
        else:
            if lost or seen.above(least) > _CHANCE:
                self._climbing = False
            believed = exp(least.level + 1.5 * least.error)
            limit = self.algorithm.next_limit(self._exact, seen.typical, believed, lost)
        if limit > self._exact:
            if used < self.limit / 2:
                return
            if self._climbing:
                limit = max(limit, self._exact * 1.5)
        self._set(limit)

    def _set(self, limit: float) -> None:
        self._exact = min(limit, self._maximum) if limit > self._minimum else float(self._minimum)
        previous, self.limit = self.limit, int(self._exact)
        self._allowed = self.limit
        if previous != self.limit:
            self.changes.append((previous, self.limit))

    # --- the least ----------------------------------------------------------------------------------------------------

    def _half(self, limit: int) -> int:
        return max(self._minimum, limit // 2)

    def _learn(self, light: Sample) -> None:
        in_vain = light.level > (self.least or light).level and self._exact < self._light_limit * _IN_VAIN
        self._light_at, self._light_limit = self.latest, self._exact
        least = self.least
        # A least that was too low by chance pulls the limit down, and averages would take long to forgive it.
        if least is None or not self._known or abs(light.above(least)) > _SURE or in_vain:
            self.least = light
        else:
            self.least = least.joined(light, _REMEMBERED)
        self._known = True

    def _wants_probe(self, seen: Sample, least: Sample) -> bool:
        if self._half(self._allowed) == self._allowed:
            return False
        doubtful = (
            not self._known
            or least.calls < _ENOUGH
            or self._exact < self._light_limit * _IN_VAIN
            or self._has_changed(seen, least)
        )
        pause = max(_PROBE_SOON, 4 * self._probe_took) if doubtful else max(_PROBE_EVERY, 20 * self._probe_took)
        return self.latest - self._light_at > max(pause, 20 * least.typical)

    def _has_changed(self, seen: Sample, least: Sample) -> bool:
        return abs(seen.level - least.level) > _FAR and abs(seen.above(least)) > _CHANCE

    def _begin_probe(self, seen: Sample, least: Sample) -> None:
        before = seen if self._recent is None or self._has_changed(seen, least) else self._recent
        self._before = self._above = before
        self._probe_at = self.latest
        self._allowed = self._half(self._allowed)

    def _end_step(self, above: Sample, seen: Sample | None) -> None:
        """Half as many calls were allowed as when `above` was seen: look for the queue that is gone."""
        half = self._half(self._allowed)
        if seen is not None and seen.level - above.level < -_FAR and half < self._allowed:
            self._above = seen
            self._allowed = half
            return
        before, self._before, self._above, self._recent = self._before, None, None, None
        self._probe_took = self.latest - self._probe_at
        if seen is None or before is None:
            self._set(self._exact / 2)
            return
        queue = before.mean / seen.mean
        self._learn(seen)
        if queue > _LONG:
            # Little's law once more: what was in flight, without what stood in the queue.
            self._climbing = False
            self._exact /= queue
        self._set(self._exact)
