"""Who hears what, in which order, and how little a listener can spoil."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitOpen, Retry, events, listen, registry
from resilience._hub import HUB, Channel, live
from resilience.core.breaker import Circuit
from resilience.events import (
    CallRejected,
    CallSucceeded,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    Event,
    LateResult,
)
from resilience.testing import VirtualClock

PATIENCE = 10.0


class Boom(Exception):
    """What the callee raises in these tests."""


def fails() -> None:
    """Raise."""
    raise Boom("down")


def fail(breaker: CircuitBreaker) -> None:
    """One failing call."""
    with pytest.raises(Boom):
        breaker.call(fails)


def told(sequence: list[Any]) -> list[str]:
    """The events by their class, and transitions by their states."""
    return [f"{e.previous}>{e.state}" if hasattr(e, "previous") else type(e).__name__ for e in sequence]


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `sys.unraisablehook` is given."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: seen.append((it.exc_type, it.exc_value)))
    return seen


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    """Threads are switched at almost every bytecode."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work(n)` on so many threads, started together; errors are raised here."""
    barrier, errors = threading.Barrier(count), list[BaseException]()

    def run(n: int) -> None:
        try:
            barrier.wait(PATIENCE)
            work(n)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "stuck"
    if errors:
        raise errors[0]


# --- what is told -----------------------------------------------------------------------------------------------------


def test_the_whole_story_of_a_breaker_in_order() -> None:
    """B3: each transition once, with where from and where to, and the calls between them."""
    clock = VirtualClock(100.0)
    breaker = CircuitBreaker(2, cooldown=10, name="db", clock=clock)
    heard: list[Any] = []
    breaker.listen(heard.append)
    breaker.call(int)
    fail(breaker)
    fail(breaker)
    with pytest.raises(CircuitOpen):
        breaker.call(int)
    clock.advance(10)
    breaker.call(int)
    with breaker.isolate("deploy"):
        breaker.isolate("again").release()
    breaker.open()
    breaker.open()
    breaker.close()
    breaker.close()
    names = "CallSucceeded closed>open CallRejected open>half_open half_open>closed CallSucceeded"
    assert told(heard) == [*names.split(), "closed>isolated", "isolated>closed", "closed>open", "open>closed"]
    assert {(e.policy, e.kind) for e in heard} == {("db", "circuit_breaker")}
    assert [e.at for e in heard] == [100.0] * 3 + [110.0] * 7
    opened, rejected, isolated = heard[1], heard[2], heard[6]
    assert isinstance(opened, CircuitOpened) and opened.last_error == ("Boom", "down")
    assert (rejected.reason, rejected.retry_after) == ("open", 10.0)
    assert isinstance(isolated, CircuitIsolated) and isolated.reason == "deploy"
    assert [type(heard[i]) for i in (3, 4)] == [CircuitHalfOpened, CircuitClosed]


def test_each_refusal_is_told_with_its_state() -> None:
    """Open, half-open and full, isolated."""
    clock = VirtualClock()
    breaker = CircuitBreaker(cooldown=10, trial_lease=4, clock=clock)
    heard: list[Any] = []
    breaker.listen(heard.append, CallRejected)
    for bring in (breaker.open, lambda: (clock.advance(10), breaker.guard().__enter__()), breaker.isolate):
        bring()
        with pytest.raises(CircuitOpen):
            breaker.call(int)
    assert [(e.reason, e.retry_after) for e in heard] == [("open", 10.0), ("half_open", 4.0), ("isolated", None)]


def test_both_transitions_of_one_act_are_told_with_their_moment() -> None:
    """Opening a circuit whose cooldown is over passes through half-open, now."""
    clock = VirtualClock()
    breaker = CircuitBreaker(cooldown=10, clock=clock)
    breaker.open()
    heard: list[Any] = []
    breaker.listen(heard.append)
    clock.advance(25)
    breaker.open()
    assert told(heard) == ["open>half_open", "half_open>open"]
    assert [e.at for e in heard] == [25.0, 25.0]


def test_an_event_is_told_before_the_call_that_caused_it_returns() -> None:
    """With nobody else delivering, the caller's own thread has told everything when it goes on."""
    breaker = CircuitBreaker(1)
    heard: list[Any] = []
    breaker.listen(heard.append)

    with contextlib.suppress(Boom):
        try:
            breaker.call(fails)
        except Boom:
            assert told(heard) == ["closed>open"]
            raise
    assert breaker.state == "open"


def test_a_transition_is_told_before_the_call_that_it_admits_begins() -> None:
    """The first trial is told of as it goes in, not when it comes out."""
    clock = VirtualClock()
    breaker = CircuitBreaker(cooldown=10, clock=clock)
    breaker.open()
    heard: list[Any] = []
    breaker.listen(heard.append)
    clock.advance(10)
    assert breaker.call(lambda: told(heard)) == ["open>half_open"]


def test_successes_are_told_from_the_moment_somebody_listens() -> None:
    """Listening and stopping take effect for calls that are under way, in every form."""
    breaker = CircuitBreaker()
    heard: list[Any] = []
    with breaker.guard():
        stop = breaker.listen(heard.append)
    breaker.call(int)
    with breaker.guard():
        stop()
    breaker.call(int)
    assert told(heard) == ["CallSucceeded"] * 2
    stop_all = listen(heard.append)
    breaker.call(int)
    stop_all()
    breaker.call(int)
    assert told(heard) == ["CallSucceeded"] * 3


def test_only_the_types_asked_for_are_heard() -> None:
    """One type, several, or a base of many."""
    breaker = CircuitBreaker(1)
    some: dict[str, list[Any]] = {"one": [], "two": [], "base": [], "all": []}
    breaker.listen(some["one"].append, CircuitOpened)
    breaker.listen(some["two"].append, CircuitClosed, CallSucceeded)
    breaker.listen(some["base"].append, Event)
    breaker.listen(some["all"].append)
    breaker.call(int)
    fail(breaker)
    breaker.close()
    assert told(some["one"]) == ["closed>open"]
    assert told(some["two"]) == ["CallSucceeded", "open>closed"]
    assert told(some["base"]) == told(some["all"]) == ["CallSucceeded", "closed>open", "open>closed"]


@pytest.mark.parametrize("ear", [listen, CircuitBreaker().listen])
def test_what_cannot_be_a_listener_is_refused(ear: Any) -> None:
    """Both parameters are checked, with the rule and the value."""
    for wrong, message in [
        ((None,), r"^callback must be callable, got None$"),
        ((print, "CircuitOpened"), r"^event_types must be classes of resilience\.events, got 'CircuitOpened'$"),
        ((print, int), r"^event_types must be classes of resilience\.events, got <class 'int'>$"),
        ((print, CircuitOpened, (CircuitClosed,)), r"^event_types must be .*, got \(<class"),
    ]:
        with pytest.raises(TypeError, match=message):
            ear(*wrong)
    assert not HUB.listeners


def test_stopping_is_once_and_for_one_listener() -> None:
    """A callback registered twice hears twice; stopping one, however often, leaves the other."""
    breaker = CircuitBreaker()
    heard: list[Any] = []
    stop, _other = breaker.listen(heard.append), breaker.listen(heard.append)
    breaker.call(int)
    assert len(heard) == 2
    stop(), stop()
    breaker.call(int)
    assert len(heard) == 3


def test_nobody_listening_means_that_nothing_is_built() -> None:
    """An event that nobody hears does not exist, and the flags say so from the first listener to the last."""
    breaker, other = CircuitBreaker(1), CircuitBreaker()
    assert not breaker._channel.heard and not type(HUB)().heard
    stop = breaker.listen(print, LateResult)
    assert HUB.heard and breaker._channel.heard and not other._channel.heard
    stop_all = listen(print, LateResult)
    stop()
    assert HUB.heard and breaker._channel.heard and other._channel.heard
    assert CircuitBreaker()._channel.heard
    stop_all()
    assert not (breaker._channel.heard or other._channel.heard or CircuitBreaker()._channel.heard)
    assert HUB.heard or not any(policy._channel.heard for policy in live)


def test_an_event_that_nobody_hears_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker goes through all that can happen to it without building one."""
    monkeypatch.setattr(Event, "__init__", lambda *_, **__: pytest.fail("an event was made"))
    clock = VirtualClock()
    breaker = CircuitBreaker(1, cooldown=10, trial_lease=1, clock=clock)
    old = breaker.guard()
    old.__enter__()
    fail(breaker)
    old.__exit__(None, None, None)
    with pytest.raises(CircuitOpen):
        breaker.call(int)
    clock.advance(10)
    for _ in range(2):
        breaker.guard().__enter__()
        clock.advance(1)
    breaker.call(int)
    breaker.isolate().release()
    assert breaker.state == "closed"


def test_a_global_listener_hears_every_policy_of_every_age() -> None:
    """Those that exist, and those built later."""
    old = CircuitBreaker(name="old")
    heard: list[Any] = []
    stop = listen(heard.append)
    try:
        new, retry = CircuitBreaker(name="new"), Retry(on=Boom, name="retry")
        for policy in (old, new, retry):
            policy.call(int)
    finally:
        stop()
    assert [(e.policy, e.kind) for e in heard] == [
        ("old", "circuit_breaker"),
        ("new", "circuit_breaker"),
        ("retry", "retry"),
    ]
    old.call(int)
    assert len(heard) == 3


def test_a_policys_own_listeners_come_before_the_global_ones_in_order_of_arrival() -> None:
    """The order among listeners is fixed."""
    breaker = CircuitBreaker()
    order: list[str] = []
    stop = listen(lambda _: order.append("all"))
    try:
        breaker.listen(lambda _: order.append("first"))
        breaker.listen(lambda _: order.append("second"))
        breaker.call(int)
    finally:
        stop()
    assert order == ["first", "second", "all"]


# --- listeners that misbehave -----------------------------------------------------------------------------------------


def test_a_listener_that_raises_harms_nobody(unraisable: list[Any]) -> None:
    """Its error goes to `sys.unraisablehook`, whole and with a note of whose it is; others hear, the call goes on."""
    breaker = CircuitBreaker(1)
    heard: list[Any] = []

    def broken(event: Event) -> None:
        raise LookupError("in the listener")

    breaker.listen(broken)
    breaker.listen(heard.append)
    assert breaker.call(lambda: "fine") == "fine"
    fail(breaker)
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(int)
    assert refused.value.__context__ is None
    assert told(heard) == ["CallSucceeded", "closed>open", "CallRejected"]
    assert [(kind, str(error)) for kind, error in unraisable] == [(LookupError, "in the listener")] * 3
    assert all("broken" in error.__notes__[0] and "unharmed" in error.__notes__[0] for _, error in unraisable)
    assert unraisable[0][1].__traceback__.tb_next is not None


def test_a_listener_that_raises_one_object_for_ever_grows_no_notes(unraisable: list[Any]) -> None:
    """The note is added once."""
    breaker, error = CircuitBreaker(), LookupError("always the same")

    def broken(event: Event) -> None:
        raise error.with_traceback(None)

    breaker.listen(broken)
    for _ in range(5):
        breaker.call(int)
    assert len(unraisable) == 5 and len(error.__notes__) == 1


def test_a_listener_that_cannot_even_be_named_harms_nobody(unraisable: list[Any]) -> None:
    """A callback whose repr raises is reported too."""

    class Nameless:
        def __call__(self, event: Event) -> None:
            raise LookupError

        def __repr__(self) -> str:
            raise RuntimeError("no name")

    breaker = CircuitBreaker()
    breaker.listen(Nameless())
    assert breaker.call(lambda: "fine") == "fine"
    assert [kind for kind, _ in unraisable] == [RuntimeError]


def test_a_listener_that_calls_the_policy_is_told_afterwards() -> None:
    """What a listener does to the policy is told after what it was told of, to everybody in the same order."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, cooldown=10, clock=clock)
    first: list[Any] = []
    second: list[Any] = []

    def repair(event: Event) -> None:
        first.append(event)
        if isinstance(event, CircuitOpened):
            assert breaker.snapshot()["state"] == "open"
            with pytest.raises(CircuitOpen):
                breaker.call(int)
            clock.advance(10)
            assert breaker.call(lambda: "fine") == "fine"
            assert told(first) == ["closed>open"], "nothing is told while something is told"

    breaker.listen(repair)
    breaker.listen(second.append)
    fail(breaker)
    story = ["closed>open", "CallRejected", "open>half_open", "half_open>closed", "CallSucceeded"]
    assert told(first) == told(second) == story


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_way_out_of_the_program_passes_through_a_listener(error: type[BaseException]) -> None:
    """It reaches the caller; nothing stays locked, and what was not told yet is told next time."""
    breaker = CircuitBreaker(1)
    heard: list[Any] = []

    def leaves(event: Event) -> None:
        if isinstance(event, CircuitOpened):
            breaker.close()
            raise error

    breaker.listen(leaves)
    breaker.listen(heard.append)
    with pytest.raises(error):
        breaker.call(fails)
    assert told(heard) == []
    assert breaker.call(lambda: "fine") == "fine"
    assert told(heard) == ["open>closed", "CallSucceeded"]


def test_a_listener_that_blocks_holds_up_nobodys_call() -> None:
    """While one thread is stuck in a listener, others call, are refused, and go; their events come later, in order."""
    clock = VirtualClock()
    breaker = CircuitBreaker(1, cooldown=10, clock=clock)
    stuck, free = threading.Event(), threading.Event()
    heard: list[Any] = []

    def blocks(event: Event) -> None:
        heard.append(event)
        if len(heard) == 1:
            stuck.set()
            assert free.wait(PATIENCE)

    breaker.listen(blocks)
    thread = threading.Thread(target=lambda: fail(breaker))
    thread.start()
    assert stuck.wait(PATIENCE)
    with pytest.raises(CircuitOpen):
        breaker.call(int)
    clock.advance(10)
    assert breaker.call(lambda: "fine") == "fine"
    assert breaker.state == "closed"
    fail(breaker)
    assert told(heard) == ["closed>open"]
    free.set()
    thread.join(PATIENCE)
    rest = ["CallRejected", "open>half_open", "half_open>closed", "CallSucceeded", "closed>open"]
    assert told(heard) == ["closed>open", *rest]
    breaker.close()
    assert told(heard)[-1] == "open>closed"


def test_a_blocked_listener_of_one_policy_holds_up_no_other() -> None:
    """Each policy delivers its own, to a listener of all too."""
    slow, quick = CircuitBreaker(name="slow"), CircuitBreaker(name="quick")
    stuck, free = threading.Event(), threading.Event()
    heard: list[str] = []

    def blocks(event: Event) -> None:
        if event.policy == "slow":
            stuck.set()
            assert free.wait(PATIENCE)
        heard.append(event.policy)

    stop = listen(blocks, CallSucceeded)
    thread = threading.Thread(target=lambda: slow.call(int))
    try:
        thread.start()
        assert stuck.wait(PATIENCE)
        quick.call(int)
        assert heard == ["quick"]
    finally:
        free.set()
        thread.join(PATIENCE)
        stop()
    assert heard == ["quick", "slow"]


# --- coming and going while events are told ---------------------------------------------------------------------------


def test_one_who_begins_to_listen_during_an_event_hears_from_the_next() -> None:
    """Not the event that is being told."""
    breaker = CircuitBreaker(1)
    late: list[Any] = []

    def invites(event: Event) -> None:
        if isinstance(event, CircuitOpened):
            breaker.listen(late.append)

    breaker.listen(invites)
    fail(breaker)
    assert told(late) == []
    breaker.close()
    assert told(late) == ["open>closed"]


def test_one_who_is_stopped_during_an_event_hears_no_more() -> None:
    """Not even the event that is being told; a listener may stop itself."""
    breaker = CircuitBreaker(1)
    heard: list[str] = []

    def once(event: Event) -> None:
        heard.append("once")
        stop_once()
        stop_other()

    def other(event: Event) -> None:
        heard.append("other")

    stop_once, stop_other = breaker.listen(once), breaker.listen(other)
    breaker.listen(lambda event: heard.append("third"))
    fail(breaker)
    breaker.close()
    assert heard == ["once", "third", "third"]


def test_listening_and_stopping_while_others_call_and_build() -> None:
    """Listeners come and go, policies are born and die, on threads of their own: nothing breaks or goes unheard."""
    breaker = CircuitBreaker(3, on=Boom)
    heard: list[Any] = []

    def work(n: int) -> None:
        for i in range(150):
            if n < 2:
                stop = breaker.listen(heard.append) if n else listen(heard.append)
                stop()
            elif n < 4:
                policies = [CircuitBreaker() for _ in range(3)]
                del policies
            elif n < 6:
                registry()
                breaker.call(int)
            else:
                with contextlib.suppress(Boom, CircuitOpen):
                    breaker.call(fails if i % 2 else int)

    with switching_often():
        run_threads(8, work)
    assert not HUB.listeners and not breaker._channel.heard
    assert HUB.heard or not any(policy._channel.heard for policy in live)
    breaker.reset()
    assert breaker._clean == breaker._permit >= 0, "the fast path is back"


def test_a_policy_built_while_somebody_begins_to_listen_is_heard() -> None:
    """There is no moment at which a new policy can miss a listener to all."""

    def at_once() -> list[Any]:
        heard: list[Any] = []
        made: list[CircuitBreaker] = []
        stops: list[Callable[[], None]] = []
        run_threads(2, lambda n: stops.append(listen(heard.append)) if n else made.append(CircuitBreaker()))
        made[0].call(int)
        stops[0]()
        return told(heard)

    with switching_often():
        assert [at_once() for _ in range(60)] == [["CallSucceeded"]] * 60


# --- under threads ----------------------------------------------------------------------------------------------------


def test_every_transition_once_and_in_order_under_eight_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """B3: what listeners hear is exactly what the circuit did, one after the other, whoever did it."""
    done: list[str] = []
    move = Circuit._move

    def recorded(self: Circuit, state: Any) -> None:
        if state is not self.state:
            done.append(f"{self.state}>{state}")
        move(self, state)

    monkeypatch.setattr(Circuit, "_move", recorded)
    clock = VirtualClock()
    breaker = CircuitBreaker(2, on=Boom, cooldown=1, trials=2, clock=clock)
    heard: list[Any] = []
    everything: list[Any] = []
    breaker.listen(heard.append, CircuitOpened, CircuitHalfOpened, CircuitClosed, CircuitIsolated)
    breaker.listen(everything.append)

    def work(n: int) -> None:
        for i in range(250):
            with contextlib.suppress(Boom, CircuitOpen):
                breaker.call(fails if (i + n) % 3 else int)
            if i % 5 == n % 5:
                clock.advance(0.5)
            if n == 0 and i % 50 == 0:
                breaker.isolate().release()
            if n == 1 and i % 40 == 0:
                breaker.open()

    with switching_often():
        run_threads(8, work)
    assert len(done) > 10
    assert told(heard) == done
    assert all(a.state == b.previous for a, b in itertools.pairwise(heard))
    assert [e.at for e in everything] == sorted(e.at for e in everything)


def test_every_event_is_told_once_whoever_delivers() -> None:
    """Events of eight threads are told one at a time, each thread's own in its order, and none is left behind."""
    channel = Channel()
    telling: list[int] = []
    heard: list[tuple[int, int]] = []

    def hears(event: Any) -> None:
        telling.append(1)
        assert len(telling) == 1, "two threads deliver at once"
        heard.append((event.policy, event.at))
        telling.pop()

    channel.listen(hears, ())

    def work(n: int) -> None:
        for i in range(400):
            channel.send(CallSucceeded(n, "test", i, attempts=1))  # type: ignore[arg-type]

    with switching_often():
        run_threads(8, work)
    assert not channel._queue
    assert [[i for who, i in heard if who == n] for n in range(8)] == [list(range(400))] * 8


# --- the registry -----------------------------------------------------------------------------------------------------


def test_the_registry_holds_the_named_policies_weakly() -> None:
    """Named by hand or by the function decorated, sorted; gone when nothing uses them."""

    def mine() -> list[str]:
        return [policy.name for policy in registry() if policy.name.startswith("registry-test")]

    unnamed, b = CircuitBreaker(), CircuitBreaker(name="registry-test-b")
    a = CircuitBreaker(name="registry-test-a")
    assert mine() == ["registry-test-a", "registry-test-b"]
    assert unnamed not in registry()

    def fetch() -> None: ...

    fetch.__name__ = "registry-test-fetch"
    wrapped = unnamed(fetch)
    assert mine()[2:] == ["registry-test-fetch"] and wrapped.policy is unnamed
    del a, b
    gc.collect()
    assert mine() == ["registry-test-fetch"]


def test_listening_keeps_no_policy_alive() -> None:
    """A listener's own callback is all that it holds."""
    import weakref

    breaker = CircuitBreaker()
    gone = weakref.ref(breaker)
    stop = breaker.listen(print)
    del breaker
    assert gone() is None
    stop()


# --- fork -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_tells_its_own_events_and_not_its_parents() -> None:
    """Forked while another thread is stuck delivering, the child delivers, and leaves the parent its queue."""
    breaker = CircuitBreaker(1)
    stuck, free = threading.Event(), threading.Event()
    heard: list[Any] = []

    def blocks(event: Event) -> None:
        heard.append(event)
        if len(heard) == 1:
            stuck.set()
            free.wait(PATIENCE)

    breaker.listen(blocks)
    thread = threading.Thread(target=lambda: fail(breaker))
    thread.start()
    assert stuck.wait(PATIENCE)
    breaker.close()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            breaker.call(int)
            os.write(writer, " ".join(told(heard)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "closed>open CallSucceeded"
    os.waitpid(child, 0)
    free.set()
    thread.join(PATIENCE)
    assert told(heard) == ["closed>open", "open>closed"]


def test_every_name_of_the_events_module_is_an_event() -> None:
    """What can be asked for by type is what there is."""
    assert all(issubclass(getattr(events, name), Event) for name in events.__all__)


def test_a_listener_hears_in_the_context_of_the_call() -> None:
    """Whichever thread delivers an event, what the listener reads of its context is that of the call it is about."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    breaker = CircuitBreaker()
    stuck, free = threading.Event(), threading.Event()
    heard: list[str] = []

    def hear(_: Event) -> None:
        heard.append(who.get())
        if len(heard) == 1:
            stuck.set()
            free.wait(10)

    def first() -> None:
        who.set("first")
        breaker.call(int)

    breaker.listen(hear)
    thread = threading.Thread(target=first)
    thread.start()
    stuck.wait(10)
    who.set("second")
    breaker.call(int)
    free.set()
    thread.join()
    assert heard == ["first", "second"]
