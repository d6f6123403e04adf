"""What is to be found out: who calls, what answers, what goes wrong, and under which policies.

A scenario is a value: it is checked as a whole when it is made, it can be sent to another process, and nothing in it
changes while it is played. Each of its rules is stated once, beside its default; the same names are the keys of a
scenario in TOML (`resilience.testing.simulation.toml`).

The server is the smallest one that has a capacity, as in any text on queues: `workers` that each do one piece of work
at a time, and before them a queue, first come, first served, of bounded length. It knows nothing of the patience of its
clients: it works on what its client has given up long ago. That is what makes it fall over. As soon as the wait in the
queue is longer than that patience, every answer comes too late, so the work is done and none of it is of use; and if
the clients then ask for more than before, since they try again, it stays so after the cause has gone. Such a state is
called metastable (Bronson, Aghayev, Charapko and Zhu, "Metastable Failures in Distributed Systems", HotOS 2021).
Nothing in the model is there to bring it about but the three facts above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from resilience._checks import number, positive_int, seconds, share, wrong_type, wrong_value
from resilience.policies._base import Policy
from resilience.testing.simulation.expressions import POLICIES, evaluate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard

__all__ = ["Clients", "Incident", "Scenario", "Server"]

Policies = Sequence[str] | Callable[[], Policy]
"""Policies as expressions, outermost first, or a function without parameters that builds one (or a pipeline)."""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Who calls.

    Attributes:
        loop: "closed": each of `number` clients waits for its answer, thinks, and calls again, so that a slow server
            has fewer calls; "open": calls come at `rate` whatever becomes of them.
        number: clients of a closed loop.
        think: mean seconds between an answer and the next call of a closed loop; exponential.
        rate: mean calls per second of an open loop; a Poisson process.
        instances: the processes that the clients live in; each has policies of its own.
    """

    loop: str = "closed"
    number: int = 200
    think: float = 2.5
    rate: float | None = None
    instances: int = 1

    def __post_init__(self) -> None:
        if self.loop not in {"closed", "open"}:
            raise wrong_value("clients.loop", '"closed" or "open"', self.loop)
        positive_int("clients.number", self.number)
        seconds("clients.think", self.think)
        positive_int("clients.instances", self.instances)
        if self.loop == "closed" and self.instances > self.number:
            raise wrong_value("clients.instances", f"at most clients.number, {self.number}", self.instances)
        if self.loop == "open" or self.rate is not None:
            number("clients.rate", self.rate)
        if self.loop == "closed" and self.rate is not None:
            raise wrong_value("clients.rate", "left out where clients.loop is closed", self.rate)


@dataclass(frozen=True, kw_only=True)
class Server:
    """What answers. Its capacity is `workers / service` calls per second.

    Attributes:
        workers: pieces of work done at a time.
        queue: calls that may wait; one more is refused with a `ConnectionError`.
        service: mean seconds of work for one call.
        distribution: of that time: "constant", "exponential", or "lognormal" with the standard deviation `spread` of
            its logarithm.
        spread: for "lognormal".
        refusal: seconds until a client hears that it was refused.
        notices: whether work is spared on a call whose client has gone while it waited in the queue.
    """

    workers: int = 10
    queue: int = 500
    service: float = 0.1
    distribution: str = "exponential"
    spread: float = 1.0
    refusal: float = 0.005
    notices: bool = False

    def __post_init__(self) -> None:
        positive_int("server.workers", self.workers)
        _count("server.queue", self.queue)
        seconds("server.service", self.service)
        if self.distribution not in {"constant", "exponential", "lognormal"}:
            raise wrong_value("server.distribution", '"constant", "exponential" or "lognormal"', self.distribution)
        number("server.spread", self.spread)
        seconds("server.refusal", self.refusal)
        _flag("server.notices", self.notices)

    @property
    def capacity(self) -> float:
        """Calls per second when all is well."""
        return self.workers / self.service


_SIZES = {"surge": "rate", "slow": "factor", "lost": "share", "down": None}


@dataclass(frozen=True, kw_only=True)
class Incident:
    """What goes wrong, from `at` on, for `lasts` seconds.

    Attributes:
        kind: "surge": `rate` calls per second more, from others who do not try again; "slow": work takes `factor` times
            as long; "lost": that `share` of the workers is gone; "down": every call is refused.
        at: seconds from the beginning.
        lasts: seconds; `math.inf` for good.
        rate, factor, share: how much of it; the one that belongs to the kind.
    """

    kind: str
    at: float
    lasts: float
    rate: float | None = None
    factor: float | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _SIZES:
            raise wrong_value("incidents.kind", " or ".join(f'"{kind}"' for kind in _SIZES), self.kind)
        seconds("incidents.at", self.at, zero=True)
        seconds("incidents.lasts", self.lasts, infinite=True)
        wanted = _SIZES[self.kind]
        for name in ("rate", "factor", "share"):
            value = getattr(self, name)
            if name == wanted:
                (share if name == "share" else number)(f"incidents.{name}", value)
            elif value is not None:
                raise wrong_value(f"incidents.{name}", f"left out where incidents.kind is {self.kind}", value)
        if self.share == 1.0:
            raise wrong_value("incidents.share", "below 1; with nobody left the kind is down", self.share)

    @property
    def until(self) -> float:
        """The second at which it is over."""
        return self.at + self.lasts


def _bare() -> dict[str, Policies]:
    return {"bare": ()}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One experiment; immutable, and checked when it is made.

    Attributes:
        title: for tables and plots.
        seconds: how long to simulate.
        clients, server, incidents: see there.
        pipelines: the policies to compare, by name; each a sequence of expressions, outermost first, or a function
            without parameters that builds a policy or a pipeline (module-level, where several processes are to play).
            None at all compares nothing: the calls go out bare.

    Raises:
        TypeError, ValueError: a value breaks its rule; the message names the key, the rule and the value.
    """

    title: str = "a scenario"
    seconds: float = 120.0
    clients: Clients = field(default_factory=Clients)
    server: Server = field(default_factory=Server)
    incidents: tuple[Incident, ...] = ()
    pipelines: Mapping[str, Policies] = field(default_factory=_bare)

    def __post_init__(self) -> None:
        _text("title", self.title)
        seconds("seconds", self.seconds)
        for name, kind in (("clients", Clients), ("server", Server)):
            if not isinstance(getattr(self, name), kind):
                raise wrong_type(name, f"a {kind.__name__}", getattr(self, name))
        object.__setattr__(self, "incidents", _all_incidents(self.incidents))
        for incident in self.incidents:
            if incident.at >= self.seconds:
                raise wrong_value("incidents.at", f"before the end, {self.seconds:g} s", incident.at)
        _table("pipelines", self.pipelines)
        # A plain dictionary goes to another process as it is.
        object.__setattr__(self, "pipelines", dict(self.pipelines))
        for name in self.pipelines:
            self.build(name)

    def build(self, name: str) -> list[Any]:
        """The policies of a pipeline, built anew, outermost first.

        Raises:
            TypeError, ValueError: an expression is wrong, or no policy came of it.
        """
        given = self.pipelines[name]
        where = f"pipelines.{name}"
        if isinstance(given, str) or not (callable(given) or isinstance(given, Sequence)):
            raise wrong_type(where, "a list of expressions, or a function that builds a policy", given)
        if callable(given):
            parts: list[tuple[str, Any]] = [(where, given())]
        else:
            parts = [
                (f"{where}[{index}]", evaluate(text, POLICIES, f"{where}[{index}]")) for index, text in enumerate(given)
            ]
        for place, part in parts:
            if isinstance(part, type) or not callable(getattr(part, "bind", None)):
                raise wrong_type(place, "a policy, such as Retry(on=OSError)", part)
        return [part for _, part in parts]

    @property
    def first_incident(self) -> float:
        """When the first incident begins; never, without one."""
        return min((incident.at for incident in self.incidents), default=inf)

    @property
    def all_clear(self) -> float:
        """When the last incident that ends before the end of the scenario is over."""
        return max((each.until for each in self.incidents if each.until < self.seconds), default=inf)


def _all_incidents(value: object) -> tuple[Incident, ...]:
    rule = "a tuple or list of Incident"
    if not _is_listing(value):
        raise wrong_type("incidents", rule, value)
    return tuple(_incident(each, rule) for each in value)


def _is_listing(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, tuple | list)


def _incident(value: object, rule: str) -> Incident:
    if not isinstance(value, Incident):
        raise wrong_type("incidents", rule, value)
    return value


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise wrong_type(name, "a string that is not empty", value)


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise wrong_type(name, "true or false", value)


def _table(name: str, value: object) -> None:
    if not _is_table(value):
        raise wrong_type(name, "a table of at least one pipeline", value)


def _is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping) and value != {}


def _count(name: str, value: object) -> None:
    rule = "an integer, 0 or more"
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, rule, value)
    if value < 0:
        raise wrong_value(name, rule, value)
