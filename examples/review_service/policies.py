"""Every policy of the service, on one page.

A page of reviews needs three things: to be let in, a key to check the token with, and the database. A fourth, what the
provider says about the reader, is nice to have. What one of them may cost the others is decided here and nowhere else.

                           the door                    needed                       nice to have
    GET /review/{id}   by_address, by_subject, load  ->  looks, keys, reading         ->  userinfo
    GET /reviews       by_address, by_subject, load  ->  looks, keys, reading
    POST, DELETE       by_address, by_subject, load  ->  looks, keys, reading, writing
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Never, ParamSpec, Protocol, TypeVar

from examples.review_service.auth.errors import ProviderError, ProviderUnavailable
from examples.review_service.auth.keys import FLOOR
from examples.review_service.auth.profiles import AroundProfile, known_here, subject_of
from examples.review_service.models.errors import DatabaseBusy, DatabaseUnavailable
from resilience import (
    CircuitBreaker,
    Clock,
    Fallback,
    LoadShedder,
    Pipeline,
    Priority,
    Rejected,
    Retry,
    Throttle,
    TimedOut,
    Timeout,
)
from resilience.backoff import exponential
from resilience.stores import RedisStore

P = ParamSpec("P")
R = TypeVar("R")

READ, WRITE, BROWSE = Priority.CRITICAL, Priority.DEFAULT, Priority.SHEDDABLE
"""Who goes first when there is too much: the page that somebody asked for, then writing, then leafing through lists."""

ROOM = {BROWSE: 0.5, WRITE: 0.25}
"""What of a burst is kept back from them, for what matters more."""


def policies(clock: Clock | None = None, redis_url: str = "") -> Policies:
    """The service as it should run.

    Raises:
        ImportError: there is a `redis_url`, and nothing to talk to it with; the message names what to install.
    """
    # Where the service is many processes, what must hold for all of them together is kept in one place: how often one
    # address and one user may ask, and whether the provider is down. When that place is away each process goes on by
    # itself, so it is one more thing that helps and none that the service stands on.
    store = RedisStore.from_url(redis_url) if redis_url else None
    return Policies(
        # A request has two seconds in all. Whatever is called for it gets what is left of them.
        deadline=2.0,
        # The door. An address may knock a hundred times a second; the burst is for a whole office behind one address.
        # It is counted before the token is looked at, because looking costs more than counting. Lists are turned away
        # when half of the burst is gone and writing when three quarters are, so that reading is refused last.
        by_address=Throttle("100/s burst 1000", headroom=ROOM, name="address", store=store, clock=clock),
        # One user may have many addresses. Half as much for each of them, wherever they come from.
        by_subject=Throttle("50/s burst 1000", headroom=ROOM, name="subject", store=store, clock=clock),
        # A rate says what one caller may do, not what the service can. When requests wait for one another, the lists
        # give way at 0.3 seconds, writing at 0.6, and a page that somebody asked for last of all; within each, the same
        # users, so that the others notice nothing.
        load=LoadShedder(target_delay=1.0, name="load", clock=clock),
        # How often the provider is asked for its keys, whatever strangers send: never again within the floor. That is
        # also the backoff after a failure, so there is no retry here, and nothing a breaker could add.
        looks=Throttle(f"1 per {FLOOR} seconds", name="looks", clock=clock),
        keys=Timeout(2.0, thread=False, name="keys", clock=clock),
        # Who is reading, in the provider's words. Nobody waits long for it: two short attempts, and none while the
        # provider is down. It allows ten calls for each user and five more a minute; asking for more would only teach
        # us its 429. When nothing comes of it, the page is built from what the database knows.
        userinfo=Pipeline(
            Fallback(on=(ProviderError, Rejected, TimedOut), call=known_here, clock=clock),
            Retry(on=ProviderUnavailable, attempts=2, within=0.7, backoff=exponential(0.05), clock=clock),
            CircuitBreaker(
                5, on=ProviderUnavailable, cooldown=1.0, name="userinfo.circuit_breaker", store=store, clock=clock
            ),
            Throttle("5/minute burst 10", key=subject_of, clock=clock),
            Timeout(0.3, thread=False, clock=clock),
            name="userinfo",
        ),
        # The database. A lock that somebody holds is worth waiting for, twice and briefly; a database that is gone is
        # not. Two circuits, because the usual trouble is a lock that keeps writers out and does readers no harm.
        reading=database("reading", clock),
        writing=database("writing", clock),
    )


def database(name: str, clock: Clock | None) -> Pipeline[Never]:
    """What stands around the database, once for reading and once for writing."""
    return Pipeline(
        Retry(on=DatabaseBusy, attempts=2, within=1.0, backoff=exponential(0.05), clock=clock),
        CircuitBreaker(10, on=DatabaseUnavailable, cooldown=0.5, clock=clock),
        Timeout(0.25, thread=False, clock=clock),
        name=name,
    )


def no_policies(clock: Clock | None = None) -> Policies:
    """The same service without them, for the demonstration: every call is made, and waited for as clients do.

    Keys are still kept: that is no policy of ours but what every verifier does.
    """
    nothing = _Nothing()
    return Policies(
        deadline=None,
        by_address=None,
        by_subject=None,
        load=None,
        looks=Throttle(f"1 per {FLOOR} seconds", name="looks", clock=clock),
        keys=nothing,
        userinfo=nothing,
        reading=nothing,
        writing=nothing,
    )


class Around(Protocol):
    """What is put around a function and leaves its type alone."""

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Wrap `fn`."""
        ...


class _Nothing:
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        return fn


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies by what they protect. All of them are safe from any thread."""

    deadline: float | None
    by_address: Throttle | None
    by_subject: Throttle | None
    load: LoadShedder | None
    looks: Throttle
    keys: Around
    userinfo: AroundProfile
    reading: Around
    writing: Around
