"""Redis is shared, and whoever can write there can write anything; and keys are made of what users send.

Junk under a key of ours is an outage for whoever asks about it, told with the name of the key. It never raises anything
else, never hangs, and never admits what the policy does not allow by itself. Whatever a name or a key consists of, it
stays within its own braces.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience import CircuitBreaker, CircuitOpen, CircuitState, FailureRate, Rejected, RetryBudget, Throttle
from resilience.events import StoreLost
from resilience.stores import MemoryStore, RedisStore
from tests.stores.servers import Server

BOUNDED = 1.0  # seconds, on any machine: a script that does not end would take the store's whole time

NUMBERS = st.one_of(
    st.sampled_from(
        [
            *("nan", "-nan", "inf", "-inf", "-1", "0", "-0", "1e308", "-1e308", "1e300", "1e-320", "9007199254740993"),
            *("", "0x10", "1e999", "1_0", "٣", "1;2", "--", "1e15", "1e6", "4e9"),
        ]
    ),
    st.floats().map(repr),
    st.integers().map(str),
)
TEXTS = st.one_of(
    st.lists(NUMBERS, max_size=20).map(lambda words: " ".join(words).encode()),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5).map(
        lambda words: " ".join(map(repr, words)).encode()
    ),
    st.binary(max_size=64),
    st.integers(1, 40).map(lambda size: b"1 " * size),
)
FIELDS = st.sampled_from(["core", "latest", "calm", "t1", "t2", "t", "leases", "i1", "i", "ix", "inan", "other", ""])
CORE = st.lists(NUMBERS, min_size=15, max_size=15).map(lambda words: " ".join(words).encode())
HASHES = st.dictionaries(FIELDS, st.one_of(TEXTS, CORE), min_size=1, max_size=6)
JUNK = st.one_of(
    TEXTS,
    HASHES,
    st.lists(TEXTS, min_size=1, max_size=3),
    st.sets(TEXTS, min_size=1, max_size=3),
    st.dictionaries(TEXTS, st.floats(allow_nan=False), min_size=1, max_size=3).map(lambda scores: ("sorted", scores)),
    st.just(("stream", {"a": "b"})),
    st.just(("huge", b"9 ")),
)
"""What may be under a key: a string, a hash, a list, a set, a sorted set, a stream, and very much of anything."""


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Somebody else who can write there."""
    with redis.Redis(port=server.port) as made:
        yield made


class Parrot(MemoryStore):
    """Answers the same to everything."""

    __slots__ = ("answer",)

    def __init__(self, answer: list[Any]) -> None:
        super().__init__()
        self.answer = answer

    def ask(self, *question: Any, **options: Any) -> Any:
        """Say it."""
        return list(self.answer)


def put(client: Any, key: str, junk: Any) -> None:
    """Write it there, whatever it is."""
    client.delete(key)
    if isinstance(junk, bytes):
        client.set(key, junk)
    elif isinstance(junk, dict):
        client.hset(key, mapping=junk)
    elif isinstance(junk, list):
        client.rpush(key, *junk)
    elif isinstance(junk, set):
        client.sadd(key, *junk)
    elif junk[0] == "huge":
        client.set(key, junk[1] * 200_000)
    elif junk[0] == "sorted":
        client.zadd(key, junk[1])
    else:
        client.xadd(key, junk[1])


NAMES = map(str, itertools.count())

Verb = Callable[[Any], object]


def _settle(throttle: Throttle) -> None:
    with throttle.guard() as guard:
        guard.settle(0)


def _quota(throttle: Throttle) -> None:
    quota = throttle.peek()
    assert quota.remaining >= 0.0
    assert quota.retry_after >= 0.0


def _fail(breaker: CircuitBreaker) -> None:
    with suppress(OSError):
        breaker.call(_raise)


def _raise() -> None:
    raise OSError("down")


def _isolate(breaker: CircuitBreaker) -> None:
    with breaker.isolate("by hand"), suppress(CircuitOpen):
        breaker.call(int)


def _view(breaker: CircuitBreaker) -> None:
    assert isinstance(breaker.state, CircuitState)
    wait = breaker.snapshot()["retry_after"]
    assert wait is None or wait >= 0.0


RATES = ("1/hour burst 5", "7/day burst 7")
KINDS: dict[str, tuple[Callable[..., Any], Sequence[Verb]]] = {
    "bucket": (
        partial(Throttle, *RATES, max_wait=0),
        [Throttle.try_acquire, _settle, lambda throttle: throttle.reserve().cancel(), _quota, Throttle.reset],
    ),
    "breaker": (
        partial(CircuitBreaker, (3, FailureRate(0.5, window=10), FailureRate(0.5, calls=10)), cooldown=0.01),
        [
            *(lambda breaker: breaker.call(int), _fail, _view, _isolate),
            *(CircuitBreaker.open, CircuitBreaker.close, CircuitBreaker.reset),
        ],
    ),
    "budget": (RetryBudget, [RetryBudget.withdraw, RetryBudget.deposit, RetryBudget.snapshot]),
}
ASKED = [(kind, verb) for kind, (_, verbs) in KINDS.items() for verb in verbs]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(ASKED), JUNK)
def test_junk_under_a_key_is_an_outage_that_names_it(
    store: RedisStore, client: redis.Redis, asked: tuple[str, Verb], junk: Any
) -> None:
    """Whatever is under a key, each verb ends in time, in a decision or a refusal, and what was wrong names the key."""
    kind, verb = asked
    name = next(NAMES)
    policy = KINDS[kind][0](store=store, name=name)
    lost: list[StoreLost] = []
    policy.listen(lost.append, StoreLost)
    key = store.key(kind, (name,))
    put(client, key, junk)
    began = time.perf_counter()
    with suppress(Rejected):
        verb(policy)
    assert time.perf_counter() - began < BOUNDED
    assert all(key in event.error for event in lost)
    client.delete(key)


@pytest.mark.parametrize(
    "calm", ["1 2", "0 9 0 0 0 0 0 0 0 0 0 ", "nan " * 12, "0 0 nan nan 0 0 0 0 0 0 0 ", "inf " * 11, "x"]
)
def test_an_answer_that_makes_no_sense_names_the_key(store: RedisStore, client: redis.Redis, calm: str) -> None:
    """What a script repeats as it found it is read with care, and the event says where it was found."""
    breaker = CircuitBreaker(1, store=store, name="api")
    lost: list[StoreLost] = []
    breaker.listen(lost.append, StoreLost)
    client.hset("resilience:breaker:{api}", mapping={"calm": calm, "latest": "1"})
    assert breaker.call(lambda: "page") == "page"
    assert len(lost) == 1
    assert "resilience:breaker:{api}" in lost[0].error


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1), st.lists(st.one_of(st.text(), st.integers()), max_size=3), st.data())
def test_a_key_says_nothing_but_itself(name: str, parts: list[str | int], data: st.DataObject) -> None:
    """No name and no key can close the braces, look like two parts, or look like another: escaping loses nothing."""
    store = RedisStore(client=redis.Redis())
    whose = (name, *parts)
    key = store.key("bucket", whose)
    assert re.fullmatch(r"resilience:bucket:\{[-A-Za-z0-9_.~%:#]+\}", key)
    found = re.fullmatch(r"resilience:bucket:\{(.*)\}", key)
    assert found is not None
    read = tuple(
        int(part[1:]) if part.startswith("#") else unquote(part, errors="surrogatepass") for part in found[1].split(":")
    )
    assert read == whose


STRANGE = [
    *("{", "}", "}{", "{}", "a}b{c", "\n", "\r\n*1\r\n$8\r\nFLUSHALL\r\n", "a:b", "#1", "%7B", "", " ", "\x00"),
    *("ключ", "🔑", "e\u0301", "\ud800", "\udcff", "x" * 10_240, "🔑" * 10_240),
]


@pytest.mark.parametrize("key", STRANGE, ids=lambda key: ascii(key)[:20])
def test_strange_keys_have_limits_of_their_own(store: RedisStore, client: redis.Redis, key: str) -> None:
    """Braces, newlines, commands, half a character, ten thousand of them: each is one key, and no outage."""
    throttle = Throttle("1/hour burst 1", key="user", store=store, name="api", on_store_error="deny")
    lost: list[StoreLost] = []
    throttle.listen(lost.append, StoreLost)
    assert [throttle.try_acquire(key=key), throttle.try_acquire(key=key)] == [True, False]
    assert [word.decode() for word in client.scan_iter()] == [store.key("bucket", ("api", key))]
    assert not lost


@pytest.mark.parametrize("answer", [["nan"] * 20, ["inf"] * 20, ["-1"] * 20, [], ["x"], [None], ["1e308"] * 20])
@pytest.mark.parametrize(("kind", "verb"), ASKED, ids=lambda part: part if isinstance(part, str) else "")
def test_what_a_store_answers_is_read_with_care(kind: str, verb: Verb, answer: list[Any]) -> None:
    """A store that answers nonsense is lost, and nothing else."""
    policy = KINDS[kind][0](store=Parrot(answer), name=next(NAMES))
    with suppress(Rejected):
        verb(policy)
