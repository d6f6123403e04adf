"""Whom to turn away when there is more to do than can be done.

Theory of operation
-------------------
A service that is offered twice what it can do does not do half of it: the queue grows until everybody has given up by
the time he is served, and then it does nothing that anybody wants. What it can do is choose. Three questions, in order.

*How long do calls wait?* A server knows when a request arrived, and may report it. Otherwise Little's law tells: over
any stretch of time, mean in flight / (completions / time) is what a call took, and what it would have taken without a
queue is known (`resilience.core.least`). It is looked at in periods of at least a quarter of a second and twenty
completions, so a service that has completed nothing turns nobody away. A queue that comes and goes is no overload: of
the last two periods, the shorter wait counts (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012). And
what may be chance, two standard errors of it, is no wait.

*Who goes first?* First those who matter least: every call has a level, and a level below CRITICAL has a stop, a wait at
which none of it is admitted any more. Within a level, it goes by user: each has a rank in [0, 1), a hash of his name,
and the low ranks go first (Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018). Turning away
every second call of everybody would spoil everybody's visit, which takes more than one call; turning away every second
user spoils half of them. The hash is the same in every process and on every machine, so that several services that a
user's work passes through turn away the same users.

    position = level + rank, from 0 to 3         admitted if position >= cut, and the level has not stopped

*How many?* So many that what is admitted is what can be done: what was offered in the last periods is counted by
position, and the cut is put where as many calls lie above it as were completed, a few more if the wait is shorter than
its goal and a few less if it is longer. Rates are steady while an overload lasts, and waits are not: so the cut stays
where it is, and the same users are hit from the beginning of the episode to its end. A cut that followed the wait would
wander over everybody.

    cut in       goal for the wait      the level stops at       as shares of the target
    SHEDDABLE    0.2                    0.3
    DEFAULT      0.45                   0.6
    CRITICAL     0.8                    never: only what exceeds all that can be done

An episode begins when the wait passes 0.2 of the target, and ends when the cut is 0 again, or nothing is in flight. One
that lasts may be none: the service may have become slower without a queue. So after each minute of it, for two cohorts
of calls, only two fifths as much is admitted (CRITICAL excepted), and what a call takes then is the least.

Time never runs backwards in here: a reading older than the newest one seen is raised to it.
"""

from __future__ import annotations

from math import inf, sqrt
from zlib import crc32

from resilience.core.least import Least

__all__ = ["LEVELS", "REFUSED", "Shedding", "rank_of"]

REFUSED = -1
"""What `acquire` returns instead of a permit."""

LEVELS = 3

_PERIOD = 0.25
_COMPLETIONS = 20
_CHANCE = 2.0
_STARTS = 0.2
_STOPS = (0.3, 0.6, inf)
_GOALS = (0.2, 0.45, 0.8)
_FADES = 0.9
"""Of what was counted before, with each period: it has to be steady, or the cut wanders over the users."""

_SWAY = 0.2
"""How much more or less than what is completed is admitted at most."""

_PULL = 0.5
"""That share, for each second by which the wait is off its goal, which it reaches within about two seconds."""

_DOUBT_AFTER = 60.0
_PROBE = 0.4

_BINS = 16
_SPREAD = 0x9E3779B1
"""The golden ratio of 2**32: names that differ in one letter get ranks that are far apart (Knuth)."""


def rank_of(user: object) -> float:
    """A number in [0, 1) for a user, the same in every process: by the text of a string, by the `repr` of all else."""
    text = user if isinstance(user, str) else repr(user)
    return (crc32(text.encode(errors="surrogatepass")) * _SPREAD & 0xFFFFFFFF) / 2**32


class Shedding:
    """Who is admitted, and why. Not thread-safe by itself: a policy holds its lock around each call.

    Args:
        target: the wait that is tolerable, in seconds.

    Attributes:
        in_flight: calls admitted that have not ended.
        delay: the wait, in seconds, as of the last periods.
        cut: positions below this are turned away.
        least: what a call takes when nothing waits.
        latest: the newest reading of the clock.
    """

    __slots__ = (
        "_area",
        "_began",
        "_calls",
        "_completed",
        "_ended",
        "_first",
        "_idle_since",
        "_last_delay",
        "_offered",
        "_opened",
        "_probe",
        "_reported",
        "_reports",
        "_seen",
        "_served",
        "_target",
        "_told",
        "cut",
        "delay",
        "in_flight",
        "latest",
        "least",
    )

    _began: float  # of the episode, so unknown before the first

    def __init__(self, target: float) -> None:
        self._target = target
        self.in_flight = 0
        self.delay = 0.0
        self.cut = 0.0
        self.least = Least()
        self.latest = -inf
        self._first = 0
        self._idle_since = self.latest
        self._last_delay = 0.0
        self._probe = 0
        self._told = False
        # By bins of the position: offered in this period, and in the periods before, which fade.
        self._seen = [0] * (LEVELS * _BINS)
        self._offered = [0.0] * (LEVELS * _BINS)
        self._completed = 0.0
        self._calls = [0] * LEVELS
        self._open()

    @property
    def shedding(self) -> bool:
        """Whether anybody may be turned away at present; if not, the rank of a call does not matter."""
        return self.cut > 0.0 or self.delay >= _STOPS[0] * self._target

    # --- calls --------------------------------------------------------------------------------------------------------

    def acquire(self, level: int, rank: float, now: float) -> int:
        """A permit for a call of this level (0 goes first) and of a user of this rank in [0, 1), or REFUSED."""
        self._pass(now)
        if self.shedding:
            self._seen[level * _BINS + int(rank * _BINS)] += 1
            if level + rank < self.cut or self.delay >= _STOPS[level] * self._target:
                return REFUSED
        else:
            self._calls[level] += 1
        self.in_flight += 1
        return self.least.enter(self.in_flight)

    def settle(self, permit: int, latency: float | None, now: float) -> None:
        """Take a permit back, from a call that took `latency` seconds; None where it was cut short, and tells nothing.

        A call that was refused further inside, or whose caller went away, has left its room to somebody else all the
        same.
        """
        self._pass(now)
        if permit < self._first:
            return
        self.in_flight -= 1
        self._ended += 1
        self._served += latency is not None
        self.least.leave(permit, latency, self.in_flight)
        if self.in_flight == 0:
            self._idle_since = self.latest
            if not self._told:
                self.delay = 0.0

    def report(self, delay: float, now: float) -> None:
        """A call has waited `delay` seconds, as one knows who saw it arrive: that counts, instead of the estimate."""
        self._pass(now)
        self._reported += delay
        self._reports += 1

    def forget_calls(self) -> None:
        """Nothing is in flight any more: whatever was admitted before this changes nothing when it ends."""
        self.in_flight = 0
        self.least.restart(self.least.cohort)
        self._first = self.least.cohort

    def take_over(self, calls_of: Shedding) -> None:
        """Take over the calls in flight of another one, in whose place this one is put."""
        self.in_flight = calls_of.in_flight
        self._first = calls_of._first
        self.least.restart(calls_of.least.cohort)

    # --- periods ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._opened = self.latest
        self._area = 0.0
        self._ended = 0
        self._served = 0
        self._reported = 0.0
        self._reports = 0

    def _pass(self, now: float) -> None:
        if now <= self.latest:
            return
        if self.latest == self._opened == -inf:
            self._opened = now
        elif self.in_flight:
            self._area += self.in_flight * (now - self.latest)
        self.latest = now
        if now - self._opened < _PERIOD:
            return
        if self.in_flight == 0 and now - self._idle_since >= _PERIOD:
            # There is no queue, unless it is said that there is one elsewhere; and nothing is admitted to learn more.
            self._hear(0.0)
            self.cut = 0.0
            self._open()
        elif self._served >= _COMPLETIONS:
            self._close()

    def _close(self) -> None:
        self._hear(self._estimate())
        self._completed = self._completed * _FADES + self._ended
        for bin_, seen in enumerate(self._seen):
            spread = self._calls[bin_ // _BINS] / _BINS
            self._offered[bin_] = self._offered[bin_] * _FADES + seen + spread
        self._seen = [0] * (LEVELS * _BINS)
        self._calls = [0] * LEVELS
        self._open()
        self._decide()

    def _hear(self, estimate: float) -> None:
        self._told = self._reports > 0
        delay = self._reported / self._reports if self._told else estimate
        self.delay, self._last_delay = min(delay, self._last_delay), delay

    def _decide(self) -> None:
        if self.least.cohort <= self._probe:
            return
        if self.cut == 0.0:
            if self.delay < _STARTS * self._target:
                return
            self._began = self.latest
        if self.latest - self._began > _DOUBT_AFTER:
            self._began = self.latest
            self._probe = self.least.make_room()
            self.cut = min(LEVELS - 1.0, self._where(self._completed * _PROBE))
        else:
            # Each level gives way until its own goal is met, and no goal takes anything from the levels above it.
            self.cut = max(min(level + 1.0, self._where(self._room(goal))) for level, goal in enumerate(_GOALS))

    def _estimate(self) -> float:
        if self.least.seconds is None:
            return 0.0
        took = self._area / self._served
        return max(0.0, took - self.least.seconds - _CHANCE * took / sqrt(self._served))

    def _room(self, goal: float) -> float:
        """How many of the calls offered lately there is room for, if calls are to wait for this share of the target."""
        if self.delay == 0.0:
            return self._completed * (1.0 + _SWAY)
        return self._completed * (1.0 + max(-_SWAY, min(_SWAY, (goal * self._target - self.delay) * _PULL)))

    def _where(self, room: float) -> float:
        """The position above which so many calls are offered."""
        for bin_ in reversed(range(LEVELS * _BINS)):
            offered = self._offered[bin_]
            if offered > room:
                return (bin_ + 1 - room / offered) / _BINS
            room -= offered
        return 0.0
