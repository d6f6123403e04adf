"""Flask: limits on views, `limits = Resilience(app)` and below the route `@limits.limit("10/minute")`.

Two things are done in two places. What holds for a request from its first byte to its last, its deadline, its priority
and its place, is the business of the middleware that `init_app` puts around the application. What depends on the view
is asked when Flask knows it: the throttle and the shedder of the whole application before anything else of the request
runs, and the limit of a view last, when whoever is logged in is known.
"""

from __future__ import annotations

import functools

import flask

from resilience import context
from resilience._checks import wrong_type
from resilience._shape import shape_of
from resilience.context import Priority
from resilience.errors import Rejected, StoreUnavailable, TimedOut
from resilience.integrations._arrival import ARRIVAL, Arrival
from resilience.integrations._problem import problem_of
from resilience.integrations._server import Door, Limit, limit_of
from resilience.integrations.wsgi import ResilienceMiddleware, arrival_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any, Protocol, TypeVar

    from resilience.policies._tariff import Cost, Key
    from resilience.policies.shed import LoadShedder
    from resilience.policies.throttle import Throttle
    from resilience.rates import Rate

    V = TypeVar("V", bound=Callable[..., Any])

    class Keeping(Protocol):
        """A decorator that leaves the type of a view alone."""

        def __call__(self, view: V, /) -> V: ...


__all__ = ["Resilience"]

_EXEMPT = "_resilience_exempt"
_PRIORITY = "_resilience_priority"
_OUTSIDE = "_resilience_outside"
_PLAIN = Door(None, None, 0, False)


class Resilience:
    """Limits, deadlines and priorities for a Flask application, and answers for what policies refuse.

    `Rejected` becomes 429 or 503 and `TimedOut` 504, as problem documents with Retry-After and the RateLimit fields;
    an error handler of the application's own goes first. Views may be plain or async. Safe from any thread.

    Args:
        app: the application; or call `init_app` later, for as many as you like.
        throttle: what counts every request that is not exempt. Without a key of its own it counts each client's
            address; its key and cost, where they are callables, get the request's environ.
        shedder: what turns requests away when they wait too long, those that are not exempt; its user, where there is
            one, is a callable of the environ.
        trusted_proxies: how many proxies of one's own stand in front. Only then are X-Forwarded-For, X-Priority and
            X-Request-Start believed.
        trust_priority: whether X-Priority is believed without proxies too, where only one's own services can ask.

    Raises:
        TypeError, ValueError: a parameter breaks its rule.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        throttle: Throttle | None = None,
        shedder: LoadShedder | None = None,
        trusted_proxies: int = 0,
        trust_priority: bool = False,
    ) -> None:
        self._door = Door(throttle, shedder, trusted_proxies, trust_priority)
        self._trusted_proxies = trusted_proxies
        self._trust_priority = trust_priority
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Stand before an application.

        Raises:
            TypeError: it is no `flask.Flask`.
            RuntimeError: it has a `Resilience` already, or has begun to serve.
        """
        if not isinstance(app, flask.Flask):
            raise wrong_type("app", "a flask.Flask", app)
        if "resilience" in app.extensions:
            raise RuntimeError("this application has a Resilience already")
        try:
            app.before_request(self._knock)  # first, as it is Flask that knows whether it is too late
        except AssertionError as error:
            raise RuntimeError("this application has begun to serve: a Resilience stands before it or not") from error
        hooks = app.before_request_funcs[None]
        hooks.insert(0, hooks.pop())
        for kind in (Rejected, TimedOut, StoreUnavailable):
            app.error_handler_spec[None][None].setdefault(kind, _answer)
        app.error_handler_spec[None][None].setdefault(ExceptionGroup, _answer_group)
        vars(app)["wsgi_app"] = ResilienceMiddleware(
            app.wsgi_app, trusted_proxies=self._trusted_proxies, trust_priority=self._trust_priority
        )
        app.extensions["resilience"] = self

    def limit(
        self,
        *rates: str | Rate | Throttle,
        key: Callable[[], Key | None] | None = None,
        cost: Cost | Callable[[], Cost] | None = None,
        exempt_when: Callable[[], object] | None = None,
        **options: Any,
    ) -> Keeping:
        """Limit a view. Each view that is decorated with what this returns has the limit for itself.

        Stands below `@app.route`. The callables are asked inside the request, after every `before_request`.

        Args:
            rates: as for `Throttle`; or one `Throttle`, which its views then share.
            key: whose bucket; the client's address by default, and where it says None.
            cost: what a request costs: 1 by default.
            exempt_when: a true answer lets the request pass uncounted.
            options: what else `Throttle` takes.

        Raises:
            TypeError, ValueError: a parameter breaks its rule.
        """
        limit_of(rates, key, cost, exempt_when, options)  # what breaks a rule says so here

        def decorate(view: V) -> V:
            limit = limit_of(rates, key, cost, exempt_when, options)
            limit.throttle._adopt(getattr(view, "__name__", "limit"))
            limited: V = _limited(view, limit)
            return limited

        return decorate

    def shared_limit(
        self,
        *rates: str | Rate | Throttle,
        key: Callable[[], Key | None] | None = None,
        cost: Cost | Callable[[], Cost] | None = None,
        exempt_when: Callable[[], object] | None = None,
        **options: Any,
    ) -> Keeping:
        """Limit several views together: all that are decorated with what this returns draw on one throttle.

        Takes what `limit` takes, and raises what it raises.
        """
        limit = limit_of(rates, key, cost, exempt_when, options)

        def decorate(view: V) -> V:
            limited: V = _limited(view, limit)
            return limited

        return decorate

    def exempt(self, view: V) -> V:
        """Let a view be asked as often as anybody likes: the application's throttle and shedder do not count it.

        Raises:
            TypeError: it is no view, but a blueprint perhaps.
        """
        _marks(view)[_EXEMPT] = True
        return view

    def priority(self, value: Priority) -> Keeping:
        """Say how much a view matters, to the throttles and shedders before it too.

        What a believed X-Priority says goes first: it speaks of the whole piece of work.

        Raises:
            TypeError: `value` is not a `Priority`.
        """
        context.priority(value)

        def decorate(view: V) -> V:
            _marks(view)[_PRIORITY] = value
            return view

        return decorate

    def _knock(self) -> None:
        views = flask.current_app.view_functions
        view = views.get(flask.request.endpoint or "")
        # Any callable may be a view, one that nothing can be written on too.
        marks: dict[str, Any] = getattr(view, "__dict__", {})
        if _OUTSIDE in marks and not any(marks[_OUTSIDE] in _layers(each) for each in views.values()):
            raise RuntimeError(f"the limit of {view!r} stands above its route, where it limits nothing: put it below")
        arrival = _arrival()
        priority = marks.get(_PRIORITY)
        if priority is not None and arrival.priority is None and arrival.stack is not None:
            arrival.stack.enter_context(context.priority(priority))
        if _EXEMPT not in marks:
            self._door.admit(arrival, flask.request.environ)


def _layers(view: Any) -> Iterator[Any]:
    """A view and what it wraps, as far as decorators say so."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)


def _arrival() -> Arrival:
    environ = flask.request.environ
    found: Arrival | None = environ.get(ARRIVAL)
    if found is None:
        found = environ[ARRIVAL] = arrival_at(_PLAIN, environ)
    return found


def _answer(error: Exception) -> flask.Response:
    problem = problem_of(error)
    if problem is None:
        raise error
    return flask.Response(problem.body, problem.status, problem.headers)


def _answer_group(error: ExceptionGroup[Any]) -> Any:
    """What an async view raises that has begun several things at once."""
    problem = problem_of(error)
    if problem is not None:
        return flask.Response(problem.body, problem.status, problem.headers)
    # Not ours: as it would be without us.
    app = flask.current_app
    handler: Any = app.error_handler_spec[None][None].get(Exception)
    if handler is None:
        raise error
    return app.ensure_sync(handler)(error)


def _limited(view: Any, limit: Limit) -> Any:
    if shape_of(view) == "coroutine":

        @functools.wraps(view)
        async def async_form(*args: Any, **kwargs: Any) -> Any:
            await limit.take_async(_arrival())
            answered: Awaitable[Any] = view(*args, **kwargs)
            return await answered

        limited: Any = async_form
    else:

        @functools.wraps(view)
        def sync_form(*args: Any, **kwargs: Any) -> Any:
            limit.take(_arrival())
            return view(*args, **kwargs)

        limited = sync_form
    _marks(limited).pop(_OUTSIDE, None)
    _marks(view)[_OUTSIDE] = limited
    return limited


def _marks(view: object) -> dict[str, Any]:
    if not callable(view) or not hasattr(view, "__dict__"):
        raise wrong_type("view", "a function, or another callable that has attributes", view)
    return vars(view)
