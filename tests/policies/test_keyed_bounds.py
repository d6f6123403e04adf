"""Keyed under a flood of keys: bounded, and nothing that protects somebody is forgotten."""

from __future__ import annotations

import gc
import random
import statistics
import sys
import threading
import timeit
import weakref
from typing import Any

import pytest

from resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Keyed,
    Pipeline,
    RetryBudget,
    Throttle,
    Throttled,
    events,
    registry,
)
from resilience.testing import VirtualClock

KEYS = 1024


def breaker(_: object) -> CircuitBreaker:
    """A breaker that the first failure opens."""
    return CircuitBreaker(1)


def names(hosts: Keyed[Any, Any]) -> set[object]:
    """The keys it knows."""
    return {key for key, _ in hosts.items()}


def down(host: str) -> None:
    """A call that fails."""
    raise ConnectionError(host)


# --- bounded ----------------------------------------------------------------------------------------------------------


def flood(keys: int) -> None:
    """So many distinct keys, and among them an open circuit and a debt: neither goes, and nothing grows."""
    clock = VirtualClock()

    def make(key: object) -> Any:
        return Throttle("1/minute burst 2", clock=clock) if key == "busy" else CircuitBreaker(1, clock=clock)

    hosts: Keyed[Any, Any] = Keyed(make, key="host", max_keys=KEYS, name="flood", clock=clock)

    @hosts
    def fetch(host: str) -> str:
        if host == "down":
            raise ConnectionError(host)
        return host

    with pytest.raises(ConnectionError):
        fetch("down")
    assert [fetch("busy"), fetch("busy")] == ["busy", "busy"]
    held = weakref.ref(hosts["down"]), weakref.ref(hosts["busy"])

    warm = 4 * KEYS
    for number in range(warm):
        hosts[number]
    gc.collect()
    before = sys.getallocatedblocks()
    most_keys = most_policies = 0
    for number in range(warm, keys):
        hosts[number]
        if number % (keys // 10) == 0:
            most_keys = max(most_keys, len(hosts))
            most_policies = max(most_policies, sum(policy.name.startswith("flood[") for policy in registry()))
    gc.collect()
    growth = sys.getallocatedblocks() - before
    print(f"\n{keys:,} keys, max_keys={KEYS}: {most_keys} keys and {most_policies} policies at most, {growth:+} blocks")
    assert most_keys == most_policies == KEYS
    assert growth < 5_000

    assert held == (weakref.ref(hosts["down"]), weakref.ref(hosts["busy"]))
    with pytest.raises(CircuitOpen):
        fetch("down")
    with pytest.raises(Throttled):
        fetch("busy")


def test_a_flood_of_keys_stays_bounded() -> None:
    """100,000 distinct keys leave 1024 policies; the open circuit and the debt among them survive."""
    flood(100_000)


@pytest.mark.proof
def test_a_million_keys_stay_bounded() -> None:
    """1,000,000 distinct keys leave 1024 policies; the open circuit and the debt among them survive."""
    flood(1_000_000)


def test_a_hundred_thousand_calls_stay_bounded() -> None:
    """100,000 calls with distinct keys, through a decorated function, keep no more wrappers than policies."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Counted:
        def __init__(self) -> None:
            alive.add(self)

        def bind(self, fn: Any, /) -> Any:
            return lambda *args, **kwargs: (self, fn(*args, **kwargs))[1]

    hosts = Keyed(lambda host: Counted(), key="host", max_keys=KEYS)

    def fetch(host: int) -> int:
        return host

    calls = [hosts(fetch), hosts(fetch)]
    for number in range(50_000):
        assert [call(number) for call in calls] == [number, number]
    assert len(hosts) == KEYS
    assert len(alive) <= KEYS


# --- what must stay ---------------------------------------------------------------------------------------------------


def test_when_all_must_stay_new_keys_share_one_policy() -> None:
    """With every circuit open, new keys get one overflow policy between them, and none of the open ones goes."""
    hosts = Keyed(breaker, key="host", max_keys=50, name="hosts")
    fetch = hosts(down)
    for number in range(50):
        with pytest.raises(ConnectionError):
            fetch(f"{number}")
    shared = hosts["new"]
    assert hosts["newer"] is shared
    assert shared.name == "hosts[*]"
    assert names(hosts) == {f"{number}" for number in range(50)}
    with pytest.raises(ConnectionError):
        fetch("new")
    with pytest.raises(CircuitOpen) as refused:
        fetch("newer")
    assert refused.value.policy == "hosts[*]"
    assert {policy.state for _, policy in hosts.items()} == {"open"}
    view = hosts.snapshot()
    assert (view["keys"], view["full"], view["overflow"]["state"]) == (50, True, "open")


def test_full_is_said_once_in_an_episode_and_again_in_the_next() -> None:
    """`KeysFull` is heard once until a new key has found room, however many share meanwhile."""
    hosts = Keyed(breaker, max_keys=2, name="hosts")
    heard: list[events.Event] = []
    hosts.listen(heard.append)
    for key in ("a", "b"):
        hosts[key].open()
    for number in range(100):
        hosts[number]
    assert [(type(event), event.policy, event.kind) for event in heard] == [(events.KeysFull, "hosts", "keyed")]
    assert [event.max_keys for event in heard if isinstance(event, events.KeysFull)] == [2]
    hosts["a"].close()
    hosts["c"].open()
    assert names(hosts) == {"b", "c"}
    assert len(heard) == 1
    for number in range(100):
        hosts[number]
    assert len(heard) == 2


def test_an_episode_that_nobody_heard_is_over_all_the_same() -> None:
    """Listening in the middle of an episode hears nothing of its beginning."""
    hosts = Keyed(breaker, max_keys=1)
    hosts["a"].open()
    hosts["b"]
    heard: list[events.Event] = []
    hosts.listen(heard.append)
    hosts["c"]
    assert heard == []


def test_the_last_that_can_go_is_found_at_once() -> None:
    """Among 1023 open circuits the one that is closed gives way, each time."""
    hosts = Keyed(breaker, max_keys=KEYS)
    for number in range(KEYS - 1):
        hosts[number].open()
    for number in range(KEYS, 2 * KEYS):
        hosts[number]
        assert number in hosts._table.entries
    assert set(range(KEYS - 1)) <= names(hosts)
    assert not hosts.snapshot()["full"]


def test_what_comes_to_rest_is_noticed() -> None:
    """After an episode, a closed circuit among 1024 is found within 32 new keys, and the episode is over."""
    hosts = Keyed(breaker, max_keys=KEYS)
    for number in range(KEYS):
        hosts[number].open()
    hosts["new"]
    hosts[700].close()
    newcomers = [f"new {number}" for number in range(KEYS // 32)]
    for key in newcomers:
        hosts[key]
    assert len(names(hosts) & set(newcomers)) >= 1
    assert 700 not in names(hosts)


def test_a_newcomer_asks_a_bounded_number_of_questions() -> None:
    """However large the table, a key too many asks at most 34 policies, and a known key asks none."""
    asked = 0

    class Busy(Bulkhead):
        def _at_rest(self) -> bool:
            nonlocal asked
            asked += 1
            return False

    hosts = Keyed(lambda key: Busy(1), max_keys=KEYS)
    for number in range(KEYS):
        hosts[number]
    hosts["first"]
    counts: list[int] = []
    for number in range(100):
        asked = 0
        hosts[f"new {number}"]
        counts.append(asked)
    asked = 0
    hosts[1]
    assert (max(counts), asked) == (34, 0)


def test_the_overflow_policy_keeps_its_state_between_episodes() -> None:
    """The next episode has the same overflow policy, with what it remembers."""
    hosts = Keyed(breaker, max_keys=1)
    hosts["a"].open()
    hosts["b"].open()
    shared = hosts["b"]
    hosts["a"].close()
    assert hosts["c"] is not shared
    hosts["c"].open()
    assert hosts["d"] is shared
    assert shared.state == "open"


def test_what_was_used_goes_after_what_was_not() -> None:
    """Of those that can go, one that was used again has a second chance."""
    hosts = Keyed(breaker, max_keys=3)
    for key in ("a", "b", "c", "a"):
        hosts[key]
    hosts["d"]
    assert names(hosts) == {"a", "c", "d"}


def test_what_is_busy_in_a_flood_stays() -> None:
    """Keys in use outlast any number of keys that come once."""
    hosts = Keyed(breaker, max_keys=20)
    busy = [f"busy {number}" for number in range(10)]
    held = [weakref.ref(hosts[key]) for key in busy]
    for number in range(2000):
        hosts[number]
        hosts[busy[number % 10]]
    assert [ref() for ref in held] == [hosts[key] for key in busy]


@pytest.mark.parametrize("kind", ["throttle", "bulkhead", "budget", "pipeline"])
def test_nothing_is_forgiven_under_a_flood(kind: str) -> None:
    """A debt, a call in flight and a budget drawn on are what they were after ten thousand other keys."""
    clock = VirtualClock()
    made: dict[str, Any] = {
        "throttle": lambda: Throttle("1/minute", clock=clock),
        "bulkhead": lambda: Bulkhead(1, clock=clock),
        "budget": lambda: RetryBudget(capacity=1, clock=clock),
        "pipeline": lambda: Pipeline(Bulkhead(5), Throttle("1/minute", clock=clock)),
    }
    hosts: Keyed[Any, Any] = Keyed(lambda key: made[kind](), max_keys=10, clock=clock)
    guard = None
    if kind == "budget":
        assert hosts["it"].withdraw()
    elif kind == "bulkhead":
        guard = hosts["it"].guard()
        guard.__enter__()
    else:
        hosts["it"].call(len, "")
    for number in range(10_000):
        hosts[number]
    if kind == "budget":
        assert not hosts["it"].withdraw()
        return
    with pytest.raises(BulkheadFull if kind == "bulkhead" else Throttled):
        hosts["it"].call(len, "")
    if guard is not None:
        guard.__exit__(None, None, None)
        assert hosts["it"].call(len, "") == 0


# --- forgotten and held -----------------------------------------------------------------------------------------------


def test_who_is_held_comes_back() -> None:
    """A policy that was forgotten while somebody held it is the key's again when the key comes back."""
    hosts = Keyed(lambda key: Bulkhead(1), max_keys=1)
    held = hosts["a"]
    hosts["b"]
    assert names(hosts) == {"b"}
    with held.guard():
        assert hosts["a"] is held
        with pytest.raises(BulkheadFull):
            hosts["a"].call(len, "")
    assert hosts["a"].call(len, "") == 0


def test_who_is_held_by_nobody_is_gone() -> None:
    """A policy that was forgotten and is held by nobody is freed at once, and the key begins anew."""
    hosts = Keyed(lambda key: CircuitBreaker(5), key="host", max_keys=1)
    hosts(lambda host: host)("a")
    first = weakref.ref(hosts["a"])
    hosts["b"]
    assert first() is None
    assert hosts["a"].state == "closed"


def test_a_call_under_way_keeps_its_policy() -> None:
    """A call whose policy is forgotten under it settles that policy, and its key finds the same one meanwhile."""
    hosts = Keyed(lambda key: Pipeline(CircuitBreaker(1), name=f"{key}"), key="host", max_keys=1)
    inside = hosts["a"].policies

    @hosts
    def fetch(host: str) -> None:
        hosts["b"]
        assert names(hosts) == {"b"}
        raise ConnectionError(host)

    with pytest.raises(ConnectionError):
        fetch("a")
    breaker_of_a: Any = inside[0]
    assert breaker_of_a.state == "open"


def test_use_and_forgetting_at_the_same_moment() -> None:
    """Who was used since it was asked is not forgotten."""
    hosts: Keyed[Bulkhead]

    class Racing(Bulkhead):
        def _at_rest(self) -> bool:
            used = hosts["a"]
            assert used is self
            return True

    hosts = Keyed(lambda key: Racing(1) if key == "a" else Bulkhead(1), max_keys=2)
    first = hosts["a"]
    hosts["b"]
    hosts["c"]
    assert names(hosts) == {"a", "c"}
    assert hosts["a"] is first


def test_threads_never_see_two_policies_for_a_key_in_use() -> None:
    """Threads that use few keys among a flood never hold more places of a key than its bulkhead has."""
    hosts = Keyed(lambda key: Bulkhead(1), max_keys=8)
    inside = dict.fromkeys(range(4), 0)
    wrong: list[int] = []
    stop = threading.Event()

    def use(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(1500):
            key = chance.randrange(4)
            try:
                with hosts[key].guard():
                    inside[key] += 1
                    if inside[key] != 1:
                        wrong.append(key)
                    hosts[chance.randrange(1000, 9000)]
                    inside[key] -= 1
            except BulkheadFull:
                pass

    def strangers() -> None:
        number = 10_000
        while not stop.is_set():
            hosts[number]
            number += 1

    crowd = threading.Thread(target=strangers)
    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in [crowd, *threads]:
        thread.start()
    for thread in threads:
        thread.join(60)
    stop.set()
    crowd.join(60)
    assert wrong == []
    assert [hosts[key].snapshot()["in_flight"] for key in inside] == [0] * 4
    assert len(hosts) <= 8


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_a_known_key_is_cheap() -> None:
    """Finding a policy takes no lock, and costs a few dict look-ups; a table of 1024 costs what a table of one does."""
    hosts = Keyed(breaker)
    for number in range(KEYS):
        hosts[number]
    table = dict(hosts.items())
    hosts._lock.acquire()
    try:
        assert hosts[5] is table[5]
    finally:
        hosts._lock.release()

    def nanoseconds(statement: str) -> float:
        runs = timeit.repeat(statement, globals={"hosts": hosts, "table": table}, repeat=15, number=2000)
        return min(runs) / 2000 * 1e9

    ratios: list[float] = []
    for _ in range(5):
        found, plain = nanoseconds("hosts[5]"), nanoseconds("table[5]")
        ratios.append(found / plain)
    print(f"\nhosts[key] {found:.0f} ns, a dict look-up {plain:.0f} ns")
    assert statistics.median(ratios) < 40
