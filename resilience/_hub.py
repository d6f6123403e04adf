"""Who listens, and how events reach them.

A listener must never be able to hurt a policy. So events are queued while the policy's lock is held, in the order of
what happened, and delivered after it is released, by whichever thread gets there first; the others leave at once. A
listener that blocks holds up later events of that policy and nothing else; one that raises is reported through
`sys.unraisablehook`, as for a failing `__del__`; one that calls the policy queues events that are delivered after its
own.

Whoever delivers holds a lock of its own while it does, and the channel knows which. A lock that is taken by `with` is
free again on every way out, an interrupt included, so "is it still locked?" can be asked where a flag would have been
left behind.

Nobody pays for events that nobody hears: `heard` is one attribute of each policy, and of the hub, that says whether to
build any.

A listener may be stopped by a finaliser, so in a collection of garbage, on a thread that is inside a block of ours and
holds its lock. So nobody who holds the hub's lock waits for another one, and whoever stops waits for no policy's: the
policy learns of it at its next call.
"""

from __future__ import annotations

import collections
import threading
import weakref
from contextvars import copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from resilience.events import Event
    from resilience.policies._base import Policy

__all__ = ["HUB", "Channel", "listen", "live", "registry", "report"]


class _Hub:
    __slots__ = ("heard", "listeners", "lock")

    def __init__(self) -> None:
        self.heard = False
        """Whether anybody listens to anything, one policy or all, or did when that was last asked."""
        self.listeners: tuple[_Listener, ...] = ()
        # The same thread may come back: a collection of garbage in here can end a call whose listener listens.
        self.lock = threading.RLock()

    def review(self) -> list[Policy[object]]:
        """Tell the hub and each channel whether it is heard; returns the policies that have yet to act on it.

        Called with the lock held.
        """
        policies = list(live)
        for policy in policies:
            policy._channel.heard = bool(self.listeners or policy._channel.listeners)
            policy._choose_listeners()
        self.heard = any(policy._channel.heard for policy in policies) or bool(self.listeners)
        return policies


HUB = _Hub()


class _Live:
    """Every policy that exists, for the registry, listeners to all, and `fork`. Holds none; safe from any thread."""

    __slots__ = ("_policies",)

    def __init__(self) -> None:
        self._policies: weakref.WeakValueDictionary[int, Policy[object]] = weakref.WeakValueDictionary()

    def add(self, policy: Policy[object]) -> None:
        """Know a new policy, and tell it whether somebody listens to all."""
        with HUB.lock:
            self._policies[id(policy)] = policy
            policy._channel.heard = bool(HUB.listeners)

    def __iter__(self) -> Iterator[Policy[object]]:
        # The list of references is made in one step; a weak collection is not safe to iterate beside other threads.
        return iter([policy for ref in self._policies.valuerefs() if (policy := ref()) is not None])


live = _Live()


class _Listener:
    """One callback, and the types of event it wants; none means all."""

    __slots__ = ("callback", "stopped", "types")

    def __init__(self, callback: Callable[[Event], object], types: tuple[type[Event], ...]) -> None:
        if not callable(callback):
            raise TypeError(f"callback must be callable, got {callback!r}")
        self.callback = callback
        self.types = tuple(_event_type(kind) for kind in types)
        self.stopped = False

    def hear(self, event: Event) -> None:
        if self.stopped or (self.types and not isinstance(event, self.types)):
            return
        try:
            self.callback(event)
        except Exception as error:
            report(self.callback, error)


class Channel:
    """The listeners and the undelivered events of one policy. Safe from any thread."""

    __slots__ = ("__weakref__", "_claim", "_deliverer", "_queue", "heard", "listeners")

    def __init__(self) -> None:
        self.listeners: tuple[_Listener, ...] = ()
        self.heard = False
        self._queue: collections.deque[tuple[Event, Context]] = collections.deque()
        self._claim = threading.RLock()
        self._deliverer = threading.Lock()

    def put(self, event: Event) -> None:
        """Queue an event; may be called with the policy's lock held."""
        self._queue.append((event, copy_context()))

    def send(self, event: Event) -> None:
        """Queue an event and deliver all that are queued; never called with a lock held."""
        self._queue.append((event, copy_context()))
        self.deliver()

    def deliver(self) -> None:
        """Deliver what is queued, unless another thread is at it; never called with a lock held."""
        # Asked again after the own lock is free: whoever queued an event before that left it to this thread.
        while self._queue:
            own = threading.Lock()
            with own:
                with self._claim:
                    if self._deliverer.locked():
                        return
                    self._deliverer = own
                while self._queue:
                    self._tell(*self._queue.popleft())

    def _tell(self, event: Event, context: Context) -> None:
        # Another thread may deliver than the one whose call it was; what a listener reads of its context is the call's.
        for listener in (*self.listeners, *HUB.listeners):
            context.run(listener.hear, event)

    def listen(self, callback: Callable[[Event], object], types: tuple[type[Event], ...]) -> Callable[[], None]:
        """Add a listener; returns what removes it."""
        return _listen(self, callback, types)

    def after_fork(self) -> None:
        """In a forked child: whoever was delivering is not here, and what was queued is the parent's to deliver."""
        self._claim = threading.RLock()
        self._deliverer = threading.Lock()
        self._queue.clear()


def listen(callback: Callable[[Event], object], /, *event_types: type[Event]) -> Callable[[], None]:
    """Hear the events of every policy, those built later included.

    Args:
        callback: a plain function of one event. It runs on a thread that called the policy, outside every lock.
        event_types: only these and their subclasses; all when none is named.

    Returns:
        A function that stops listening.

    Raises:
        TypeError: `callback` is not callable, or a type is not an event type.
    """
    return _listen(HUB, callback, event_types)


def _listen(
    where: _Hub | Channel, callback: Callable[[Event], object], types: tuple[type[Event], ...]
) -> Callable[[], None]:
    listener = _Listener(callback, types)
    with HUB.lock:
        where.listeners = (*where.listeners, listener)
        policies = HUB.review()
    for policy in policies:
        policy._listeners_changed()

    def stop() -> None:
        listener.stopped = True
        with HUB.lock:
            # Again where a finaliser has stopped another one meanwhile, on this thread.
            while any(other.stopped for other in where.listeners):
                where.listeners = tuple(other for other in where.listeners if not other.stopped)
            policies = HUB.review()
        for policy in policies:
            if not policy._lock.locked():
                policy._listeners_changed()

    return stop


def registry() -> tuple[Policy[object], ...]:
    """The live policies that have a name, by name: given, from their pipeline, or from the function they decorate.

    Policies are held weakly: one that nothing uses any more is not here. Safe from any thread.
    """
    return tuple(sorted((policy for policy in live if policy._has_name), key=lambda policy: policy.name))


def _event_type(kind: object) -> type[Event]:
    from resilience.events import Event

    if not (isinstance(kind, type) and issubclass(kind, Event)):
        raise TypeError(f"event_types must be classes of resilience.events, got {kind!r}")
    return kind


def report(callback: object, error: Exception) -> None:
    """Say through `sys.unraisablehook` that a listener has raised."""
    _Unraisable(callback, error)


class _Unraisable:
    """Reports an error by raising it in a finaliser: only the interpreter can build what `sys.unraisablehook` takes."""

    __slots__ = ("callback", "error")

    def __init__(self, callback: object, error: Exception) -> None:
        self.callback = callback
        self.error: Exception | None = error

    def __del__(self) -> None:
        error, self.error = self.error, None
        try:
            if error is not None:
                note = f"raised by the listener {self.callback!r}; the policy is unharmed"
                # The same object may be raised again and again.
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
                raise error
        finally:
            del error
