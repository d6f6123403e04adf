"""Who listens, and how events reach them.

A listener must never be able to hurt a policy. So events are queued while the policy's lock is held, in the order of what happened,
and delivered after it is released, by whichever thread gets there first; the others leave at once. A listener that blocks holds up
later events of that policy and nothing else; one that raises is reported through `sys.unraisablehook`, as for a failing `__del__`; one
that calls the policy queues events that are delivered after its own.

Nobody pays for events that nobody hears: `heard` is one attribute of each policy, and of the hub, that says whether to build any.
"""

from __future__ import annotations

import collections
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience.events import Event
    from resilience.policies._base import Policy

    Listener = tuple[Callable[[Event], object], tuple[type[Event], ...]]

__all__ = ["HUB", "Channel", "listen", "live", "registry"]

live: weakref.WeakSet[Policy[object]] = weakref.WeakSet()
"""Every policy that exists, for the registry, for listeners to all, and for `fork`."""


class _Hub:
    __slots__ = ("heard", "listeners", "lock")

    def __init__(self) -> None:
        self.heard = False
        """Whether anybody listens to anything, one policy or all."""
        self.listeners: tuple[Listener, ...] = ()
        self.lock = threading.Lock()

    def review(self) -> None:
        """Tell the hub and each channel whether it is heard. Called with the lock held."""
        heard = bool(self.listeners)
        for policy in list(live):
            policy._channel.heard = bool(self.listeners or policy._channel.listeners)
            heard = heard or policy._channel.heard
            policy._listeners_changed()
        self.heard = heard


HUB = _Hub()


class Channel:
    """The listeners and the undelivered events of one policy. Safe from any thread."""

    __slots__ = ("__weakref__", "_delivering", "_queue", "heard", "listeners")

    def __init__(self) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self._queue: collections.deque[Event] = collections.deque()
        self._delivering = threading.Lock()
        self.heard = bool(HUB.listeners)

    def put(self, event: Event) -> None:
        """Queue an event; may be called with the policy's lock held."""
        self._queue.append(event)

    def send(self, event: Event) -> None:
        """Queue an event and deliver all that are queued; never called with a lock held."""
        self._queue.append(event)
        self.deliver()

    def deliver(self) -> None:
        """Deliver what is queued, unless another thread is at it; never called with a lock held."""
        while self._queue:
            if not self._delivering.acquire(blocking=False):
                return
            try:
                while self._queue:
                    self._tell(self._queue.popleft())
            finally:
                self._delivering.release()

    def _tell(self, event: Event) -> None:
        for callback, kinds in (*self.listeners, *HUB.listeners):
            if not kinds or isinstance(event, kinds):
                try:
                    callback(event)
                except Exception as error:
                    _report(callback, error)

    def listen(self, callback: Callable[[Event], object], kinds: tuple[type[Event], ...]) -> Callable[[], None]:
        """Add a listener; returns what removes it."""
        entry = _entry(callback, kinds)
        with HUB.lock:
            self.listeners = (*self.listeners, entry)
            HUB.review()

        def stop() -> None:
            with HUB.lock:
                self.listeners = tuple(other for other in self.listeners if other is not entry)
                HUB.review()

        return stop

    def after_fork(self) -> None:
        """In a forked child: whoever was delivering is not here."""
        self._delivering = threading.Lock()


def listen(callback: Callable[[Event], object], /, *event_types: type[Event]) -> Callable[[], None]:
    """Hear the events of every policy, those built later included.

    Args:
        callback: a plain function of one event. It runs on the thread of the call that caused the event, outside every lock.
        event_types: only these and their subclasses; all when none is named.

    Returns:
        A function that stops listening.

    Raises:
        TypeError: `callback` is not callable, or a type is not an event type.
    """
    entry = _entry(callback, event_types)
    with HUB.lock:
        HUB.listeners = (*HUB.listeners, entry)
        HUB.review()

    def stop() -> None:
        with HUB.lock:
            HUB.listeners = tuple(other for other in HUB.listeners if other is not entry)
            HUB.review()

    return stop


def registry() -> tuple[Policy[object], ...]:
    """The live policies that have a name, by name: given, from their pipeline, or from the function they decorate.

    Policies are held weakly: one that nothing uses any more is not here. Safe from any thread.
    """
    return tuple(sorted((policy for policy in list(live) if policy._has_name), key=lambda policy: policy.name))


def _entry(callback: Callable[[Event], object], kinds: tuple[type[Event], ...]) -> Listener:
    from resilience.events import Event

    if not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise TypeError(f"event_types must be classes of resilience.events, got {kind!r}")
    return (callback, kinds)


def _report(callback: Callable[[Event], object], error: Exception) -> None:
    # The interpreter alone can build the argument of sys.unraisablehook; it does so for an error in a finaliser.
    _Unraisable(callback, error)


class _Unraisable:
    __slots__ = ("error", "listener")

    def __init__(self, listener: Callable[[Event], object], error: Exception) -> None:
        self.listener = listener
        error.add_note(f"raised by the listener {listener!r}; the policy is unharmed")
        self.error: Exception | None = error

    def __del__(self) -> None:
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error
