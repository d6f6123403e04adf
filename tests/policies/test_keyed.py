"""Keyed: a policy for each key, made once, found again, forgotten when there is nothing to remember."""

from __future__ import annotations

import gc
import inspect
import json
import os
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Keyed,
    Pipeline,
    Policy,
    Retry,
    RetryBudget,
    Throttle,
    events,
    listen,
    registry,
)
from resilience.testing import VirtualClock, virtual_time
from tests.colours import Colour, every_colour


def breaker(_: object) -> CircuitBreaker:
    """A breaker that the first failure opens."""
    return CircuitBreaker(1)


def down(host: str) -> None:
    """A call that fails."""
    raise ConnectionError(host)


def names(hosts: Keyed[Any, Any]) -> list[object]:
    """The keys it knows."""
    return [key for key, _ in hosts.items()]


class Own:
    """A policy from elsewhere: it counts."""

    def __init__(self) -> None:
        self.calls = 0

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return fn(*args, **kwargs)

        return counted


# --- finding and making -----------------------------------------------------------------------------------------------


def test_a_key_has_one_policy_made_once() -> None:
    """The factory is called once for a key, with the key, and the same policy is found from then on."""
    asked: list[object] = []

    def make(key: str) -> CircuitBreaker:
        asked.append(key)
        return CircuitBreaker(5)

    hosts = Keyed(make)
    assert hosts["a"] is hosts["a"]
    assert hosts["a"] is not hosts["b"]
    assert asked == ["a", "b"]
    assert hosts.items() == [("a", hosts["a"]), ("b", hosts["b"])]


def test_names_say_whose_policy_it_is() -> None:
    """A policy without a name is named after the Keyed and its key, the parts of a pipeline with it; a name stays."""
    hosts = Keyed(lambda host: Pipeline(Retry(on=OSError), CircuitBreaker(5)), name="hosts")
    assert hosts["a"].name == "hosts[a]"
    assert [part.name for part in hosts["a"].policies] == ["hosts[a].retry", "hosts[a].circuit_breaker"]
    assert Keyed(lambda host: Bulkhead(5, name=host), name="hosts")["b"].name == "b"
    assert Keyed(lambda host: Bulkhead(5))["a", 443].name == "keyed[('a', 443)]"
    assert {"hosts", "hosts[a]", "hosts[a].retry"} <= {policy.name for policy in registry()}


def test_one_key_has_nothing_to_do_with_another() -> None:
    """An open circuit refuses the calls of its own key and of no other."""
    hosts = Keyed(breaker, key="host")
    fetch = hosts(down)
    with pytest.raises(ConnectionError):
        fetch("a")
    with pytest.raises(CircuitOpen):
        fetch("a")
    with pytest.raises(ConnectionError):
        fetch("b")
    assert hosts["a"].state == "open"


@pytest.mark.parametrize("key", [None, 1.5, True, b"a", ("a", None), [], object()], ids=repr)
def test_what_is_no_key_is_refused(key: Any) -> None:
    """A key is a str, an int or a tuple of them; anything else is a TypeError that leaves nothing behind."""
    hosts = Keyed(breaker)
    with pytest.raises(TypeError, match=r"key must be|unhashable"):
        hosts[key]
    assert names(hosts) == []


def test_a_factory_that_fails_leaves_nothing_behind() -> None:
    """Its error is raised unchanged, the key is not known, and the next time it is asked again."""
    errors = [ValueError("no such host")]

    def make(key: str) -> CircuitBreaker:
        if errors:
            raise errors.pop()
        return CircuitBreaker(5)

    hosts = Keyed(make)
    with pytest.raises(ValueError, match="no such host"):
        hosts["a"]
    assert names(hosts) == []
    assert hosts["a"].state == "closed"


@pytest.mark.parametrize("made", [None, 5, CircuitBreaker, "a"], ids=repr)
def test_a_factory_must_return_a_policy(made: Any) -> None:
    """What cannot wrap a function is a TypeError that shows it and the key."""
    hosts: Keyed[Any, Any] = Keyed(lambda host: made)
    with pytest.raises(TypeError, match=r"factory must return a policy.*got .* for the key 'a'"):
        hosts["a"]
    assert names(hosts) == []


def test_two_who_meet_at_a_new_key_get_the_same_policy() -> None:
    """When two threads make a policy for one key, both get the first that was ready; the other is dropped."""
    both = threading.Barrier(2)
    made: list[weakref.ref[CircuitBreaker]] = []

    def make(key: str) -> CircuitBreaker:
        both.wait(10)
        policy = CircuitBreaker(5)
        made.append(weakref.ref(policy))
        return policy

    hosts = Keyed(make)
    got: list[CircuitBreaker] = []
    threads = [threading.Thread(target=lambda: got.append(hosts["a"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    gc.collect()
    assert len(made) == 2
    assert got[0] is got[1] is hosts["a"]
    assert [ref() for ref in made].count(None) == 1


# --- as a decorator ---------------------------------------------------------------------------------------------------


@every_colour
async def test_a_call_goes_through_the_policy_of_its_key(colour: Colour) -> None:
    """The argument that `key` names decides whose policy a call passes, by position, by keyword and by default."""
    hosts = Keyed(breaker, key="args_host", clock=colour.clock)
    called = colour.function(["page", ...])

    async def fetch_later(path: str, args_host: str = "main") -> Any:
        return await called(path, args_host)

    def fetch_now(path: str, args_host: str = "main") -> Any:
        return called(path, args_host)

    fetch: Callable[..., Any] = fetch_later if colour.is_async else fetch_now
    assert await colour.call(hosts, fetch, "/", form="decorator") == "page"
    assert await colour.call(hosts, fetch, "/", "a") == "page"
    assert await colour.call(hosts, fetch, "/", args_host="b") == "page"
    assert names(hosts) == ["main", "a", "b"]


@every_colour
async def test_places_come_back_to_whom_they_belong(colour: Colour) -> None:
    """With a bulkhead for each key, one key's calls in flight leave the places of another alone."""
    hosts = Keyed(lambda host: Bulkhead(1), key=lambda host: host, clock=colour.clock)
    gate = colour.gate()

    async def hold() -> Any:
        async with colour.guard(hosts, key="a"):
            await gate.wait()

    job = colour.start(hold)
    await colour.until(lambda: hosts["a"].snapshot()["in_flight"])
    fetch = colour.function(["page", ...])
    refused = await colour.together(lambda: colour.call(hosts, fetch, "a"))
    assert type(refused[0]).__name__ == "BulkheadFull"
    assert await colour.call(hosts, fetch, "b") == "page"
    gate.open()
    await job.outcome()
    assert await colour.call(hosts, fetch, "a") == "page"


def test_the_function_stays_what_it_was() -> None:
    """Name, signature and kind are kept, and `.policy` is the Keyed."""
    hosts = Keyed(breaker, key="host")

    @hosts
    async def fetch(host: str, *, path: str = "/") -> int:
        """Fetch it."""
        return len(host + path)

    assert inspect.iscoroutinefunction(fetch)
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch it.")
    assert list(inspect.signature(fetch).parameters) == ["host", "path"]
    decorated: Any = fetch
    assert decorated.policy is hosts
    assert hosts.name == "fetch"


def test_a_coroutine_never_awaited_makes_nothing() -> None:
    """Before its first step a coroutine has no key and no policy."""
    hosts = Keyed(breaker, key="host")

    @hosts
    async def fetch(host: str) -> str:
        return host

    fetch("a").close()
    assert names(hosts) == []


def test_a_wrong_parameter_name_is_an_error_when_decorating() -> None:
    """A function without the parameter that `key` names is refused, and the error lists what it has."""
    with pytest.raises(TypeError, match=r"key names the parameter 'host'.*it has: url"):
        Keyed(breaker, key="host")(lambda url: url)


def test_without_a_key_there_is_nothing_to_decorate() -> None:
    """A Keyed without `key` says both ways to go on."""
    hosts = Keyed(breaker)
    with pytest.raises(TypeError, match=r'say Keyed\(factory, key="host"\), or use policy\[host\]'):
        hosts(down)
    with pytest.raises(ConnectionError):
        hosts["a"].call(down, "a")


def test_a_generator_is_refused_with_the_way_out() -> None:
    """A generator function cannot be decorated; the error says what to write."""

    def stream(host: str) -> Any:
        yield host

    with pytest.raises(TypeError, match=r"open policy\[key\]\.guard\(\) around it"):
        Keyed(breaker, key="host")(stream)


def test_a_guard_is_that_of_the_policy() -> None:
    """`guard(key=...)` opens the guard of that key's policy, or says why there is none."""
    hosts = Keyed(lambda host: Bulkhead(1))
    with hosts.guard(key="a"):
        assert hosts["a"].snapshot()["in_flight"] == 1
    assert hosts["a"].snapshot()["in_flight"] == 0
    with pytest.raises(TypeError, match="no guard"):
        Keyed(lambda host: Own()).guard(key="a")
    with pytest.raises(TypeError, match="Retry"):
        Keyed(lambda host: Retry(on=OSError)).guard(key="a")


def test_a_policy_from_elsewhere_will_do() -> None:
    """Any object with `bind` can be what a key has; its function is wrapped once."""
    hosts = Keyed(lambda host: Own(), key="host")

    @hosts
    def fetch(host: str) -> str:
        return host

    assert [fetch("a"), fetch("a"), fetch("b")] == ["a", "a", "b"]
    assert (hosts["a"].calls, hosts["b"].calls) == (2, 1)


def test_it_fits_into_a_pipeline() -> None:
    """Inside a pipeline the parameter is still found by name, and a fallback outside sees the refusal."""
    fetch = Pipeline(Fallback(on=Exception, value="cached"), Keyed(breaker, key="host"))(down)
    assert [fetch("a"), fetch("a")] == ["cached", "cached"]


# --- what it says of itself -------------------------------------------------------------------------------------------


def test_iterating_is_refused() -> None:
    """`for` over a Keyed would make policies for 0, 1, 2 and so on: it says to use items()."""
    hosts = Keyed(breaker)
    with pytest.raises(TypeError, match=r"policy\.items\(\)"):
        list(hosts)
    assert "a" not in hosts
    assert (len(hosts), bool(hosts)) == (0, True)
    hosts["a"].open()
    assert "a" in hosts
    assert len(hosts) == 1


def test_a_snapshot_is_json() -> None:
    """The state of each policy, by its key as text; two keys that read alike are both there."""

    def make(key: object) -> Any:
        return RetryBudget(capacity=5) if key == 1 else Own()

    hosts = Keyed(make, max_keys=9, name="hosts")
    for key in (1, "1", ("a", 2)):
        hosts[key]
    view = json.loads(json.dumps(hosts.snapshot()))
    assert {key: view[key] for key in ("name", "kind", "keys", "max_keys", "full", "overflow")} == {
        "name": "hosts",
        "kind": "keyed",
        "keys": 3,
        "max_keys": 9,
        "full": False,
        "overflow": None,
    }
    assert view["policies"]["1"]["level"] == 5
    assert view["policies"].keys() == {"1", "'1'", "('a', 2)"}


def test_replace_gives_a_fresh_one() -> None:
    """`replace` keeps the factory and what was not changed, and knows no keys."""
    hosts = Keyed(breaker, key="host", max_keys=5)
    hosts["a"].open()
    other = hosts.replace(max_keys=6)
    assert names(other) == []
    assert other["a"].state == "closed"
    assert other.snapshot()["max_keys"] == 6
    assert other.replace(idle=5)(down).__name__ == "down"
    assert "max_keys=6" in repr(other)


def test_listening_hears_the_table_and_not_the_policies() -> None:
    """`listen` of a Keyed hears its own event; those of its policies are heard by listening to all."""
    own: list[events.Event] = []
    every: list[events.Event] = []
    hosts = Keyed(breaker, max_keys=1, name="hosts")
    stops = [hosts.listen(own.append), listen(every.append)]
    try:
        hosts["a"].open()
        hosts["b"].open()
    finally:
        for stop in stops:
            stop()
    assert [(event.policy, type(event).__name__) for event in own] == [("hosts", "KeysFull")]
    assert [(event.policy, type(event).__name__) for event in every] == [
        ("hosts[a]", "CircuitOpened"),
        ("hosts", "KeysFull"),
        ("hosts[*]", "CircuitOpened"),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factory": 5}, TypeError, "factory must be a plain function that makes a policy for a key, got 5"),
        ({"factory": CircuitBreaker(5)}, TypeError, "factory must be a plain function"),
        ({"key": 5}, TypeError, "key must be the name of a parameter, or a callable of the call's arguments, got 5"),
        ({"key": "a host"}, ValueError, "key must be the name of a parameter"),
        ({"max_keys": 0}, ValueError, "max_keys must be an integer, 1 or more, got 0"),
        ({"max_keys": True}, TypeError, "max_keys must be"),
        ({"max_keys": 1.5}, TypeError, "max_keys must be"),
        ({"idle": 0}, ValueError, "idle must be a number of seconds above 0, got 0"),
        ({"idle": -1}, ValueError, "idle must be"),
        ({"idle": inf}, ValueError, "idle must be"),
        ({"idle": nan}, ValueError, "idle must be"),
        ({"idle": "1"}, TypeError, "idle must be"),
        ({"name": ""}, ValueError, "name must be"),
        ({"clock": 5}, TypeError, "clock must have"),
    ],
    ids=str,
)
def test_bad_input_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each parameter is checked when the policy is built, and the error names it, its rule and the value."""
    given: dict[str, Any] = {"factory": breaker, **arguments}
    with pytest.raises(error, match=message):
        Keyed(**given)


def test_an_async_factory_is_refused() -> None:
    """A policy is made without waiting, so a coroutine function is no factory."""

    async def make(host: str) -> CircuitBreaker:
        return CircuitBreaker(5)

    factory: Any = make
    with pytest.raises(TypeError, match="factory must be a plain function"):
        Keyed(factory)


# --- time and fork ----------------------------------------------------------------------------------------------------


def test_idle_policies_are_forgotten_and_used_ones_are_not() -> None:
    """After `idle` seconds without use a policy that remembers nothing is forgotten; each use begins them anew."""
    clock = VirtualClock()
    hosts = Keyed(breaker, idle=timedelta(seconds=10), clock=clock)
    for key in ("open", "used", "unused"):
        hosts[key]
    hosts["open"].open()
    clock.advance(6)
    hosts["used"]
    clock.advance(6)
    assert names(hosts) == ["open", "used"]
    clock.advance(10)
    assert names(hosts) == ["open"]
    hosts["open"].close()
    clock.advance(10)
    assert names(hosts) == []


def test_newcomers_clear_away_what_is_idle() -> None:
    """Without anybody looking, each new key pays for the forgetting of idle ones."""
    clock = VirtualClock()
    hosts = Keyed(lambda host: RetryBudget(), idle=10, clock=clock)
    made = [weakref.ref(hosts[f"{number}"]) for number in range(100)]
    clock.advance(10)
    for number in range(50):
        hosts[f"new {number}"]
    assert [ref() for ref in made] == [None] * 100


def test_virtual_time_gives_the_table_back() -> None:
    """At the end of virtual time the keys, their policies and when they were used are what they were."""
    hosts = Keyed(breaker, key="host", max_keys=2, idle=5)
    fetch = hosts(down)
    before = hosts["a"], hosts["b"]
    with virtual_time() as clock:
        with pytest.raises(ConnectionError):
            fetch("a")
        clock.advance(6)
        with pytest.raises(ConnectionError):
            fetch("c")
        with pytest.raises(ConnectionError):
            fetch("d")
        assert names(hosts) == ["a", "c"]
        assert hosts.snapshot()["full"]
    assert hosts.items() == [("a", before[0]), ("b", before[1])]
    assert (hosts["a"].state, hosts.snapshot()["full"], hosts.snapshot()["overflow"]) == ("closed", False, None)
    with pytest.raises(ConnectionError):
        fetch("c")
    assert hosts["c"].state == "open"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_with_the_same_policies() -> None:
    """A child has the keys of its parent and can make more, though another thread held the lock at the fork."""
    hosts = Keyed(breaker)
    hosts["a"].open()
    child = os.fork()
    if not child:
        fine = hosts["a"].state == "open" and hosts["b"].state == "closed" and names(hosts) == ["a", "b"]
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert names(hosts) == ["a"]


# --- policies that must stay, each by itself --------------------------------------------------------------------------


def rests(policy: Policy[Any]) -> bool:
    """Whether a policy can be forgotten, asked by way of a full table."""

    def make(key: str) -> Any:
        return policy if key == "it" else Own()

    hosts = Keyed(make, max_keys=1, idle=1e9)
    hosts["it"]
    hosts["another"]
    return "it" not in hosts


def test_a_throttle_stays_until_its_buckets_are_full() -> None:
    """A bucket that is not full, a key's bucket, a reservation to come or a call not settled yet keeps a throttle."""
    clock = VirtualClock()
    throttle = Throttle("1/s burst 2", clock=clock)
    assert rests(throttle)
    assert throttle.try_acquire()
    assert not rests(throttle)
    clock.advance(1)
    assert rests(throttle)
    for _ in range(5):
        throttle.reserve()
    clock.advance(4.9)
    assert not rests(throttle)
    clock.advance(0.2)
    assert rests(throttle)
    users = Throttle("1/s; 10/minute", key="user", clock=clock)
    assert users.try_acquire(key="a")
    clock.advance(1)
    assert not rests(users)
    clock.advance(5)
    assert rests(users)
    settled = Throttle("1/s", clock=clock)
    with settled.guard() as guard:
        clock.advance(2)
        assert not rests(settled)
        guard.settle(3)
    assert not rests(settled)
    clock.advance(2)
    assert rests(settled)


def test_a_throttle_keeps_its_quick_path_when_asked() -> None:
    """Being asked whether it rests changes nothing about what a throttle grants."""
    clock = VirtualClock()
    throttle = Throttle("1/s burst 2", clock=clock)
    granted: list[bool] = []
    for _ in range(3):
        granted.append(throttle.try_acquire())
        rests(throttle)
    assert granted == [True, True, False]


def test_a_bulkhead_stays_while_it_is_used() -> None:
    """A call in flight keeps a bulkhead."""
    bulkhead = Bulkhead(2)
    assert rests(bulkhead)
    with bulkhead.guard():
        assert not rests(bulkhead)
    assert rests(bulkhead)


def test_a_budget_stays_below_its_capacity() -> None:
    """A budget that was drawn on stays until it is full again."""
    clock = VirtualClock()
    budget = RetryBudget(per_second=1, capacity=5, clock=clock)
    assert rests(budget)
    assert budget.withdraw()
    clock.advance(0.5)
    assert not rests(budget)
    clock.advance(0.5)
    assert rests(budget)


@pytest.mark.parametrize("keep", ["open", "half_open", "isolated"])
def test_a_circuit_stays_until_it_is_closed(keep: str) -> None:
    """An open, half-open or isolated circuit is kept."""
    clock = VirtualClock()
    circuit = CircuitBreaker(1, cooldown=1, clock=clock)
    assert rests(circuit)
    isolation = circuit.isolate() if keep == "isolated" else None
    if isolation is None:
        circuit.open()
    if keep == "half_open":
        clock.advance(1)
    assert circuit.state == keep
    assert not rests(circuit)
    if isolation is not None:
        isolation.release()
    circuit.close()
    assert rests(circuit)


def test_a_pipeline_stays_while_one_of_its_parts_must() -> None:
    """A pipeline, within another one too, rests when all of its parts do; so does a Keyed, with its overflow."""
    bulkhead = Bulkhead(1)
    inner: Keyed[Bulkhead] = Keyed(lambda key: bulkhead, max_keys=1)
    inner["a"]
    assert rests(inner)
    with bulkhead.guard():
        assert not rests(Pipeline(Retry(on=OSError), Pipeline(CircuitBreaker(5), bulkhead)))
        assert not rests(inner)
    assert rests(Pipeline(Retry(on=OSError), Pipeline(CircuitBreaker(5), bulkhead)))
