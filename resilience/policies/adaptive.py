"""As many calls at a time as the other side can take, found out by watching.

A fixed limit is right on the day on which it was measured. The service behind it is deployed, scaled, moved, and slow
on Mondays; then the limit is too high, and protects nothing, or too low, and wastes what is there. But whether a
service has too much to do shows in how long it takes. What follows from that is decided in `resilience.core.adaptive`;
here it gets a lock, a clock and listeners.
"""

from __future__ import annotations

from resilience._checks import positive_int, wrong_type, wrong_value
from resilience.core.adaptive import REFUSED, ConcurrencyLimit
from resilience.core.limits import AIMD, Gradient, Vegas
from resilience.errors import LimitExceeded
from resilience.events import CallRejected, LimitChanged
from resilience.matching import Matcher
from resilience.policies._hearing import HearingGate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.clock import Clock
    from resilience.core.verdict import Verdict
    from resilience.matching import On

__all__ = ["AdaptiveLimit"]

_DEFAULT = Gradient()


class AdaptiveLimit(HearingGate):
    """Bound the calls in flight by a limit that is learnt from their latency.

    One object is shared by all threads, event loops and call forms; no lock is held while a call runs. In a forked
    child, nothing is in flight.

    Args:
        algorithm: how the limit moves: `Gradient()`, `Vegas()` or `AIMD()`.
        initial: the limit to begin with.
        minimum, maximum: the bounds of the limit.
        on: errors that say that the other side is overloaded: a type, a tuple of types, or a predicate. Timeouts, where
            nothing is given. Other errors say nothing, and a call that raised one is no sample.
        ignore: errors that never say so, in the same forms; wins over `on`.
        on_result: a predicate of the result; True means that it says so.
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        LimitExceeded: from a call beyond the limit.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_core",)

    kind = "adaptive_limit"
    _form = "initial=20"
    _state = ("_core",)

    def __init__(
        self,
        algorithm: Gradient | Vegas | AIMD = _DEFAULT,
        *,
        initial: int = 20,
        minimum: int = 1,
        maximum: int = 1000,
        on: On = TimeoutError,
        ignore: On = (),
        on_result: Callable[[Any], bool | float | None] | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        # It is asked with the lock held, so it is one of ours: somebody else's may raise, or call out.
        if not isinstance(algorithm, Gradient | Vegas | AIMD):
            raise wrong_type("algorithm", "Gradient(), Vegas() or AIMD()", algorithm)
        least, first, most = (
            positive_int("minimum", minimum),
            positive_int("initial", initial),
            positive_int("maximum", maximum),
        )
        if least > most:
            raise wrong_value("minimum", f"at most maximum={most}", minimum)
        if not least <= first <= most:
            raise wrong_value("initial", f"between minimum={least} and maximum={most}", initial)
        self._core = ConcurrencyLimit(algorithm, first, least, most)
        self._listen_for(Matcher(on, ignore, on_result), timed=True)
        self._setup(name, clock, arguments)

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        now = self._clock.now()
        heard = self._channel.heard
        with self._lock:
            if self._abandoned:
                self._take_back(now)
            permit = self._core.acquire(now)
            self._tell_changes()
            limit = self._core.limit
            if permit == REFUSED and heard:
                self._channel.put(CallRejected(self.name, self.kind, now, reason="limit", retry_after=None))
        if heard:
            self._channel.deliver()
        if permit == REFUSED:
            raise LimitExceeded(self.name, None, limit)
        return permit

    def _count(self, permit: int, verdict: Verdict, elapsed: float, now: float) -> None:
        self._core.settle(permit, verdict, elapsed, now)
        self._tell_changes()

    def _tell_changes(self) -> None:
        core = self._core
        if core.changes:
            if self._channel.heard:
                for previous, limit in core.changes:
                    self._channel.put(LimitChanged(self.name, self.kind, core.latest, previous=previous, limit=limit))
            core.changes.clear()

    @property
    def limit(self) -> int:
        """How many calls may be in flight, as far as is known; for a moment now and then, half as many, to find out."""
        return self._core.limit

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON; `least` is in seconds. Safe from any thread."""
        core = self._core
        with self._lock:
            least = None if core.least is None else core.least.typical
            view = {"limit": core.limit, "in_flight": core.in_flight, "probing": core.probing, "least": least}
        return {**super().snapshot(), **view}

    def _at_rest(self) -> bool:
        return self._core.in_flight == 0

    def _thaw(self, frozen: dict[str, Any]) -> None:
        # What is in flight is in flight, whatever else is put back.
        frozen["_core"].take_over(self._core)
        super()._thaw(frozen)

    def _after_fork(self) -> None:
        self._core.forget_calls()
