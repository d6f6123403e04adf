"""From a request to a caller: how often may they knock, who are they, what may they do, how much does it matter.

The order is that of cost. The address is counted before anything else is looked at, so a flood of forged tokens costs
us next to nothing; the token is checked next; its subject is counted after that, because a subject is only known once
the token is good. Last comes the question whether there is room for it, which depends on how much it matters.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import math
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from flask import Flask, Response, current_app, request

from examples.review_service.auth.verifier import Caller, Verifier, bearer_token
from examples.review_service.policies import Policies
from examples.review_service.problems import Problem, insufficient_scope, problem_of
from resilience import Clock, Priority, Throttle, Throttled, context

P = ParamSpec("P")
View = Callable[P, Response]


class Door:
    """Stands before every view. Safe from any thread."""

    def __init__(self, policies: Policies, verifier: Verifier, clock: Clock | None, trusted_proxies: int) -> None:
        self._policies = policies
        self._verifier = verifier
        self._clock = clock
        self._trusted_proxies = trusted_proxies

    def watch(self, app: Flask) -> None:
        """Count every request by its address, and tell those who have to wait how they stand."""
        app.before_request(self._count_address)
        app.after_request(self._tell_quota)

    def requires(
        self, scope: str, matters: Priority
    ) -> Callable[[Callable[Concatenate[Caller, P], Response]], View[P]]:
        """Decorate a view: it gets a caller whose token covers `scope`, a deadline and a priority."""

        def decorate(view: Callable[Concatenate[Caller, P], Response]) -> View[P]:
            @functools.wraps(view)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
                with context.priority(matters), self._deadline():
                    caller = self._verifier.caller(bearer_token(request.headers.get("Authorization")))
                    _take(self._policies.by_subject, caller.sub)
                    if not caller.may(scope):
                        raise insufficient_scope(scope)
                    with self._room_for(caller):
                        return view(caller, *args, **kwargs)

            guarded.matters = matters  # type: ignore[attr-defined]
            return guarded

        return decorate

    def _room_for(self, caller: Caller) -> contextlib.AbstractContextManager[object]:
        load = self._policies.load
        return contextlib.nullcontext() if load is None else load.guard(user=caller.sub)

    def _deadline(self) -> contextlib.AbstractContextManager[None]:
        limits = [seconds for seconds in (self._policies.deadline, _seconds_told()) if seconds is not None]
        return context.deadline(min(limits), clock=self._clock) if limits else contextlib.nullcontext()

    def _count_address(self) -> None:
        if getattr(_view(), "uncounted", False):
            return
        with _priority_of_view():
            _take(self._policies.by_address, client_address(self._trusted_proxies))

    def _tell_quota(self, answer: Response) -> Response:
        throttle = self._policies.by_address
        if throttle is not None and answer.status_code in {429, 503} and "RateLimit" not in answer.headers:
            with _priority_of_view():
                answer.headers.update(_quota(throttle, client_address(self._trusted_proxies)))
        return answer


def _view() -> Callable[..., object] | None:
    """The view that this request is for."""
    return current_app.view_functions.get(request.endpoint or "")


def _priority_of_view() -> context.priority:
    """How much this request matters."""
    return context.priority(getattr(_view(), "matters", Priority.DEFAULT))


def uncounted(view: Callable[P, Response]) -> Callable[P, Response]:
    """Mark a view that may be asked as often as anybody likes."""
    view.uncounted = True  # type: ignore[attr-defined]
    return view


def client_address(trusted_proxies: int) -> str:
    """The address that the outermost of our own proxies saw, or the one that is connected to us.

    `X-Forwarded-For` grows from left to right, and everybody can begin it. Only the entries that our own proxies wrote,
    the last ones, are believed. A whole /64 counts as one address: that is what a single household of IPv6 is given.
    """
    address = request.remote_addr or ""
    if trusted_proxies > 0:
        forwarded = request.headers.get("X-Forwarded-For", "").rsplit(",", trusted_proxies)[-trusted_proxies:]
        if len(forwarded) == trusted_proxies:
            address = forwarded[0].strip()
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return request.remote_addr or "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def _take(throttle: Throttle | None, key: str) -> None:
    if throttle is None:
        return
    try:
        throttle.acquire(key=key)
    except Throttled as refusal:
        problem = problem_of(refusal)
        problem.headers |= _quota(throttle, key)
        raise problem from None


def _quota(throttle: Throttle, key: str) -> dict[str, str]:
    """What the limit is, and how much of it is left for how long (the RateLimit fields of the IETF draft)."""
    quota = throttle.peek(key=key)
    return {
        "RateLimit-Policy": f'"{throttle.name}";q={int(quota.limit)}',
        "RateLimit": f'"{throttle.name}";r={int(quota.remaining)};t={math.ceil(quota.reset_after)}',
    }


def _seconds_told() -> float | None:
    """The time that the caller says it has left."""
    told = request.headers.get("X-Deadline-Ms", "")
    if not told.isascii() or not told.isdecimal() or len(told) > 9:
        return None
    if int(told) == 0:
        raise Problem(504, "deadline-exceeded", "The time for this request is up.")
    return int(told) / 1000
