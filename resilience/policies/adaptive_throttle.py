"""Hold back, on this side, what the other side would refuse anyway.

A backend that is overloaded refuses, and refusing is work too. Its clients know what came of their calls, so each of
them can hold back the hopeless part of its own, without a word between them. The chance with which a call is held back
is decided in `resilience.core.accepts`; here it gets a lock, a clock, dice and listeners.
"""

from __future__ import annotations

from sys import float_info

from resilience._checks import callable_or_none, is_number, positive_int, seconds, wrong_type, wrong_value
from resilience.core.accepts import REFUSED, Accepts
from resilience.errors import Throttled
from resilience.events import CallRejected
from resilience.matching import Matcher
from resilience.policies._hearing import HearingGate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any

    from resilience.clock import Clock
    from resilience.core.verdict import Verdict
    from resilience.matching import On

__all__ = ["AdaptiveThrottle"]

_K = "a number, 1 or more"
_MOST = "a number above 0, below 1, so that somebody finds out that the backend is well"


class AdaptiveThrottle(HearingGate):
    """Refuse on the spot the share of calls that the backend would refuse, but for about `k` per accepted one.

    One object is shared by all threads, event loops and call forms; no lock is held while a call runs.

    Args:
        k: calls to send for each one that is accepted, 1 or more. Lower protects the backend better, higher notices
            sooner that it has recovered.
        window: seconds to look back, also as a `timedelta`.
        minimum_calls: nothing is refused before so many are known of.
        max_rejection: the largest share that is refused, below 1: the rest goes on to find out.
        on: errors that say that the backend has not accepted a call: a type, a tuple of types, or a predicate. Calls
            that raise another one do not count.
        ignore: errors that never say so, in the same forms; wins over `on`.
        on_result: a predicate of the result; True means that the call was not accepted.
        rng: where chance comes from: a function that returns numbers in [0, 1).
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        Throttled: from a call that is held back, with `reason="backend"`.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_core", "_rng")

    kind = "adaptive_throttle"
    _form = "on=ConnectionError"
    _state = ("_core",)

    def __init__(
        self,
        k: float = 2.0,
        *,
        window: float | timedelta = 30.0,
        minimum_calls: int = 10,
        max_rejection: float = 0.95,
        on: On = Exception,
        ignore: On = (),
        on_result: Callable[[Any], bool | float | None] | None = None,
        rng: Callable[[], float] | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        if on is None:
            raise wrong_type("on", "an exception type, a tuple of them or a predicate", on)
        if not is_number(k):
            raise wrong_type("k", _K, k)
        if not 1 <= k <= float_info.max:
            raise wrong_value("k", _K, k)
        if not is_number(max_rejection):
            raise wrong_type("max_rejection", _MOST, max_rejection)
        if not 0 < max_rejection < 1:
            raise wrong_value("max_rejection", _MOST, max_rejection)
        self._core = Accepts(
            float(k), seconds("window", window), positive_int("minimum_calls", minimum_calls), float(max_rejection)
        )
        self._rng = callable_or_none("rng", rng) or _default_rng()
        self._listen_for(Matcher(on, ignore, on_result), timed=False)
        self._setup(name, clock, arguments)

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        now, u = self._clock.now(), self._rng()
        with self._lock:
            if self._abandoned:
                self._take_back(now)
            permit = self._core.acquire(now, u)
        if permit == REFUSED:
            if self._channel.heard:
                self._send(CallRejected, reason="backend", retry_after=None)
            raise Throttled(self.name, None, "backend")
        return permit

    def _count(self, permit: int, verdict: Verdict, elapsed: float, now: float) -> None:
        self._core.settle(permit, verdict)

    @property
    def rejection(self) -> float:
        """The share of calls that is refused at present, from 0 to `max_rejection`."""
        now = self._clock.now()
        with self._lock:
            return self._core.rejection(now)

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON; counts are of the window. Safe from any thread."""
        now = self._clock.now()
        with self._lock:
            requests, accepts = self._core.counts(now)
            view = {"rejection": self._core.rejection(now), "requests": requests, "accepts": accepts}
        return {**super().snapshot(), **view}

    def _at_rest(self) -> bool:
        return self.rejection == 0.0


def _default_rng() -> Callable[[], float]:
    # The module's own generator is seeded anew in a forked child.
    from random import random

    return random
