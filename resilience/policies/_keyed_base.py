"""How a `Keyed` finds the policy of a key, makes it, and lets it go; and how a function is wrapped by many.

Three things happen without our lock, because they are other people's code: the factory, `bind`, and the question
whether a policy can be forgotten. So between any two steps others may have been faster, and each step looks again. Of
two who made a policy for one key, the second drops its own.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from resilience.events import KeysFull
from resilience.policies._base import Policy
from resilience.policies._table import Entry, Table
from resilience.policies._tariff import check_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from typing_extensions import TypeVar

    from resilience._argument import Getter

    F_co = TypeVar("F_co", covariant=True)
else:
    F_co = None

__all__ = ["Bound", "KeyedBase", "is_at_rest"]

_A_FEW = 2
"""Looked at for each new key, so that the table follows what has come to rest."""
_MANY = 32
"""Looked at when nobody else can go: a table of 1024 that has come to rest is noticed within 32 new keys."""


class KeyedBase(Policy[F_co]):
    """The inner half of `Keyed`."""

    __slots__ = ("_bound", "_factory", "_full", "_idle", "_max_keys", "_overflow", "_table")

    _factory: Callable[[Any], Any]
    _idle: float
    _max_keys: int

    def _open_table(self) -> None:
        self._table = Table(self._max_keys)
        self._overflow: Entry | None = None
        self._full = False
        self._bound: WeakValueDictionary[int, Bound] = WeakValueDictionary()

    # --- finding and making -------------------------------------------------------------------------------------------

    def _entry(self, key: Any) -> Entry:
        try:
            entry = self._table.entries.get(key)
        except TypeError:
            # A list, say. What cannot be looked up is no key, and that is what the caller should read.
            check_key(key)
            raise
        if entry is not None:
            # Without a lock, in this order: see the table.
            entry.again = True
            entry.used = self._clock.now()
            if not entry.gone:
                return entry
        return self._new(key)

    def _new(self, key: Any) -> Entry:
        check_key(key)
        made: Any = None
        while True:
            now = self._clock.now()
            if not self._make_room(key, now):
                return self._shared(key)
            with self._lock:
                entry = self._table.enter(key, made, now)
                if entry is not None:
                    self._full = False
                    return entry
            # The room may be taken by others while this runs.
            made = self._made(key, f"{key}")

    def _shared(self, key: Any) -> Entry:
        entry = self._overflow
        if entry is None:
            entry = Entry(key, self._made(key, "*"), 0.0)
            with self._lock:
                if self._overflow is not None:
                    entry = self._overflow
                self._overflow = entry
        with self._lock:
            said, self._full = self._full, True
        if not said and self._channel.heard:
            self._send(KeysFull, max_keys=self._max_keys)
        return entry

    def _made(self, key: Any, label: str) -> Any:
        made: Any = self._factory(key)
        if isinstance(made, type) or not callable(getattr(made, "bind", None)):
            rule = "a policy, or an object with bind(fn) -> fn"
            raise TypeError(f"factory must return {rule}, got {made!r} for the key {key!r}")
        _name(made, f"{self.name}[{label}]")
        return made

    # --- forgetting ---------------------------------------------------------------------------------------------------

    def _make_room(self, key: Any, now: float) -> bool:
        """Forget some of what is idle, and where need be what was not used for longest; whether `key` can be had."""
        table = self._table
        self._release(_A_FEW)
        idle = _A_FEW
        while True:
            with self._lock:
                if key in table.entries:
                    return True
                entry = table.candidate()
                full = table.full
            if not full and (entry is None or not idle or now - entry.used < self._idle):
                return True
            if entry is not None:
                idle -= not full
                self._forget(entry)
            elif not self._release(_MANY):
                return False

    def _release(self, looks: int) -> bool:
        """Look at some that had to stay; whether one of them need not any more."""
        for _ in range(looks):
            with self._lock:
                entry = self._table.kept()
            if entry is None:
                break
            # Asked without our lock: a policy takes its own, and one written elsewhere does what it likes.
            if is_at_rest(entry.policy):
                with self._lock:
                    self._table.release(entry)
                return True
        return False

    def _forget(self, entry: Entry) -> None:
        entry.again = False
        rests = is_at_rest(entry.policy)
        with self._lock:
            if entry not in self._table:
                return
            if not rests:
                self._table.keep(entry)
                return
            gone = self._table.forget(entry)
        if gone:
            self._unbind(entry)

    def _forget_idle(self) -> None:
        now = self._clock.now()
        with self._lock:
            entries = list(self._table.entries.values())
        for entry in entries:
            if now - entry.used >= self._idle:
                self._forget(entry)

    def _unbind(self, entry: Entry) -> None:
        # The list of references is made in one step, beside other threads.
        for ref in self._bound.valuerefs():
            bound = ref()
            if bound is not None:
                bound.drop(entry)


def _name(made: object, name: str) -> None:
    if isinstance(made, Policy):
        made._adopt(name)


def is_at_rest(part: Any) -> bool:
    """Whether a policy can be forgotten; what was written elsewhere is taken to remember nothing."""
    return part._at_rest() if isinstance(part, Policy) else True


class Bound:
    """One function, wrapped by the policy of each key with which it is called.

    Who is forgotten is dropped here too, so that this holds no more policies than the table.
    """

    __slots__ = ("__weakref__", "_fn", "_get", "_keyed", "_wrapped")

    def __init__(self, keyed: KeyedBase[Any], fn: Callable[..., Any], get: Getter) -> None:
        self._keyed = keyed
        self._fn = fn
        self._get = get
        self._wrapped: dict[Entry, Callable[..., Any]] = {}
        keyed._bound[id(self)] = self

    def wrapper(self, shape: str) -> Callable[..., Any]:
        """A function that finds its key, and with it the policy, at each call."""
        find = self.find
        if shape == "coroutine":

            async def keyed_async(*args: Any, **kwargs: Any) -> Any:
                return await find(args, kwargs)(*args, **kwargs)

            return keyed_async

        def keyed(*args: Any, **kwargs: Any) -> Any:
            return find(args, kwargs)(*args, **kwargs)

        return keyed

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        """The function, wrapped for the key of this call."""
        entry = self._keyed._entry(self._get(args, kwargs))
        wrapped = self._wrapped.get(entry)
        return self._wrap(entry) if wrapped is None else wrapped

    def _wrap(self, entry: Entry) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = entry.policy.bind(self._fn)
        self._wrapped[entry] = wrapped
        if entry.gone:
            self.drop(entry)
        return wrapped

    def drop(self, entry: Entry) -> None:
        """Hold an entry no longer that is gone."""
        self._wrapped.pop(entry, None)
