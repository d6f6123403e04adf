"""Do what can be done, of what matters most.

A service that is offered too much and takes it all answers nobody in time. This policy stands at its door, knows how
long calls wait behind it, and turns away what matters least, user by user, until the rest can be served. How is decided
in `resilience.core.shed`; here it gets a lock, a clock, and names for the users.

    inbound = LoadShedder(user="user_id")

    @inbound
    def handle(request, user_id): ...

    with context.priority(Priority.CRITICAL):        # said where a request comes in
        handle(request, user_id)
"""

from __future__ import annotations

from math import modf

from resilience import context
from resilience._argument import argument_of, calling
from resilience._checks import callable_or_none, seconds, text_or_none, wrong_type
from resilience._drivers import bind_gate
from resilience._shape import shape_of
from resilience.core.shed import REFUSED, Shedding, rank_of
from resilience.core.verdict import IGNORED
from resilience.errors import LoadShed
from resilience.events import CallRejected
from resilience.matching import Matcher
from resilience.policies._guard import GateGuard
from resilience.policies._hearing import HearingGate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any

    from resilience._argument import Getter
    from resilience.clock import Clock
    from resilience.core.verdict import Verdict

__all__ = ["LoadShedder"]

_STEP = 0.6180339887498949
"""Ranks of callers without a name: the golden ratio fills [0, 1) evenly from any number of steps."""


class LoadShedder(HearingGate):
    """Turn away what matters least when calls wait too long, the same users for as long as it lasts.

    One object is shared by all threads, event loops and call forms; no lock is held while a call runs. In a forked
    child, nothing is in flight.

    Args:
        target_delay: the wait that is tolerable, in seconds or as a `timedelta`. SHEDDABLE calls stop at 0.3 of it, and
            DEFAULT calls at 0.6; CRITICAL calls are turned away only where they alone are more than can be done.
        user: whose call it is: the name of a parameter, or a callable of the call's arguments. Within a priority, users
            are turned away in an order that is the same in every process. Without it, calls are, evenly.
        name: for events, errors and the registry.
        clock: the time source; the machine's monotonic clock by default.

    Raises:
        LoadShed: from a call that is turned away.
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_core", "_nameless", "_user")

    kind = "load_shedder"
    _form = "user='user_id'"
    _state = ("_core",)

    def __init__(
        self,
        *,
        target_delay: float | timedelta = 0.3,
        user: str | Callable[..., object] | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        self._core = Shedding(seconds("target_delay", target_delay))
        self._user = _checked_user(user)
        self._nameless = 0.0
        # An error is work done too. A refusal further inside is none, nor is a call whose caller went away.
        self._listen_for(Matcher(Exception), timed=True)
        self._setup(name, clock, arguments)

    # --- whose call it is ---------------------------------------------------------------------------------------------

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature.

        Raises:
            TypeError: the function has no parameter of the name that was given as `user`.
        """
        if self._user is None:
            return bind_gate(self, fn)
        getter = calling(self._user) if callable(self._user) else argument_of(fn, self._user, "user")
        return bind_gate(_ByUser(self, getter), fn)

    def guard(self, *, user: object = None) -> GateGuard:
        """A block behind this gate, with `with` or `async with`, for this user. Single use; raises when refused."""
        return GateGuard(self, {"user": user})

    def _claim(self, user: object = None) -> int:
        return self._admit_user(None if user is None else lambda: user)

    async def _claim_async(self, user: object = None) -> int:
        return self._claim(user)

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._admit_user(None)

    # --- who is admitted ----------------------------------------------------------------------------------------------

    def _admit_user(self, whose: Callable[[], object] | None) -> int:
        level = context.current_priority()
        user = None if whose is None else whose()
        rank = self._next_rank() if user is None else rank_of(user)
        now = self._clock.now()
        with self._lock:
            if self._abandoned:
                self._take_back(now)
            permit = self._core.acquire(level, rank, now)
            delay = self._core.delay
        if permit == REFUSED:
            if self._channel.heard:
                self._send(CallRejected, reason=level.name.lower(), retry_after=None)
            raise LoadShed(self.name, None, level, delay)
        return permit

    def _next_rank(self) -> float:
        self._nameless = modf(self._nameless + _STEP)[0]
        return self._nameless

    def _count(self, permit: int, verdict: Verdict, elapsed: float, now: float) -> None:
        self._core.settle(permit, None if verdict is IGNORED else elapsed, now)

    def report(self, delay: float | timedelta) -> None:
        """Say how long a request has waited, in seconds, before it came here; what is reported replaces the estimate.

        For a server that knows when a request arrived: the time that a proxy wrote into a header, or the age of an
        entry in a queue.

        Raises:
            TypeError, ValueError: `delay` is no duration, 0 or more.
        """
        waited = seconds("delay", delay, zero=True)
        now = self._clock.now()
        with self._lock:
            self._core.report(waited, now)

    # --- state --------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON; times are in seconds. Safe from any thread."""
        core = self._core
        with self._lock:
            view = {
                "in_flight": core.in_flight,
                "delay": core.delay,
                "least": core.least.seconds,
                "shedding": core.shedding,
                "cut": core.cut,
            }
        return {**super().snapshot(), **view}

    def _at_rest(self) -> bool:
        return self._core.in_flight == 0 and not self._core.shedding

    def _thaw(self, frozen: dict[str, Any]) -> None:
        # What is in flight is in flight, whatever else is put back.
        frozen["_core"].take_over(self._core)
        super()._thaw(frozen)

    def _after_fork(self) -> None:
        self._core.forget_calls()


def _checked_user(user: str | Callable[..., object] | None) -> str | Callable[..., object] | None:
    if isinstance(user, str):
        return text_or_none("user", user)
    rule = "the name of a parameter, a callable of the call's arguments"
    if callable(user) and shape_of(user) != "sync":
        # What it returns is no user but a coroutine, a new one for each call, and users would go by chance.
        raise wrong_type("user", f"{rule} that is a plain function, or None", user)
    return callable_or_none("user", user, rule=rule)


class _ByUser:
    """One function's view of a shedder: it knows where the user stands among the arguments."""

    __slots__ = ("_clean", "_getter", "_now", "_permit", "_raised", "_returned", "_shedder", "_timed")

    def __init__(self, shedder: LoadShedder, getter: Getter) -> None:
        self._shedder = shedder
        self._getter = getter
        self._permit = shedder._permit
        self._clean = shedder._clean
        self._timed = shedder._timed
        self._now = shedder._now
        self._returned = shedder._returned
        self._raised = shedder._raised

    def _admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._shedder._admit_user(lambda: self._getter(args, kwargs))

    async def _admit_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        return self._admit(args, kwargs)
