"""One policy for each of many: hosts, tenants, queues.

One breaker for all hosts opens for all of them when one is down; a breaker for each, made when the host is first seen,
would grow without end if strangers can invent hosts. `Keyed` makes them on demand and forgets those that have nothing
to remember. What protects somebody is never forgotten: an open circuit, a bucket that is not full, a budget that has
been drawn on. When everything must stay, new keys share one overflow policy: they are not unprotected, only not told
apart, and `KeysFull` says so once. Whom to forget, and what the search may cost, is in `resilience.policies._table`.

A key has one policy, also while that is forgotten: as long as anybody holds what `policy[key]` returned, the same
object comes back with the key.
"""

from __future__ import annotations

from resilience._argument import argument_of, calling
from resilience._checks import positive_int, seconds, wrong_type, wrong_value
from resilience._shape import shape_of
from resilience.policies._base import Policy
from resilience.policies._keyed_base import Bound, KeyedBase, is_at_rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from typing import Any, Generic, Never, NoReturn, Protocol, overload

    from typing_extensions import TypeVar

    from resilience.clock import Clock
    from resilience.pipeline import PipelineGuard
    from resilience.policies._guard import GateGuard, ScopeGuard
    from resilience.policies._tariff import Key

    class Bindable(Protocol):
        """Anything that wraps a function."""

        def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]: ...

    F = TypeVar("F")
    F_co = TypeVar("F_co", covariant=True, default=Never)
    N = TypeVar("N", bound=Policy[Never])
    M = TypeVar("M", bound=Bindable)
    M_co = TypeVar("M_co", bound=Bindable, covariant=True, default=Policy[Any])
else:
    from resilience.policies._base import Generic

    M_co = F_co = None

__all__ = ["Keyed"]


class Keyed(KeyedBase[F_co], Generic[M_co, F_co]):
    """A policy per key, made by `factory` when first needed: `hosts["api.example"]` is the live one.

    One object is shared by all threads and event loops; two callers who meet at a new key get the same policy. No lock
    is held while `factory` or a call runs, and a known key takes none.

    Args:
        factory: called with a key, returns a policy for it, a pipeline, or any object with `bind(fn) -> fn`.
        key: for decorating: the name of a parameter, or a callable of the call's arguments that returns a str, an int
            or a tuple of them.
        max_keys: policies kept at most. Beyond that, those not used for longest are forgotten if they can be; when none
            can, new keys share one more policy, made by `factory` for the first of them.
        idle: seconds without use after which a policy that has nothing to remember is forgotten.
        name: for events and the registry; policies without a name are named after it and their key: "hosts[a]".
        clock: the time source for `idle`; the machine's monotonic clock by default.

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("_key",)

    kind = "keyed"
    _form = "make_policy, key='host'"
    _takes_callable = True

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Keyed[N, Never],
            factory: Callable[[Any], N],
            *,
            key: str | Callable[..., Key] | None = None,
            max_keys: int = 1024,
            idle: float | timedelta = 3600.0,
            name: str | None = None,
            clock: Clock | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Keyed[Policy[F], F],
            factory: Callable[[Any], Policy[F]],
            *,
            key: str | Callable[..., Key] | None = None,
            max_keys: int = 1024,
            idle: float | timedelta = 3600.0,
            name: str | None = None,
            clock: Clock | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Keyed[M, Any],
            factory: Callable[[Any], M],
            *,
            key: str | Callable[..., Key] | None = None,
            max_keys: int = 1024,
            idle: float | timedelta = 3600.0,
            name: str | None = None,
            clock: Clock | None = None,
        ) -> None: ...

    def __init__(
        self,
        factory: Callable[[Any], Any],
        *,
        key: str | Callable[..., Key] | None = None,
        max_keys: int = 1024,
        idle: float | timedelta = 3600.0,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        arguments = {key: value for key, value in locals().items() if key not in {"self", "__class__"}}
        self._factory = _checked_factory(factory)
        self._key = _checked_key(key)
        self._max_keys = positive_int("max_keys", max_keys)
        self._idle = seconds("idle", idle)
        self._open_table()
        self._setup(name, clock, arguments)

    # --- the policies -------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Key) -> M_co:
        """The live policy of a key, made if new; the overflow policy where there is no room for it.

        Raises:
            TypeError: `key` is no str, int or tuple of them, or `factory` returned something that is no policy.
        """
        policy: M_co = self._entry(key).policy
        return policy

    def items(self) -> Sequence[tuple[Key, M_co]]:
        """The keys and their policies at this moment, without the overflow policy. Looking is no use."""
        self._forget_idle()
        with self._lock:
            return [(key, entry.policy) for key, entry in self._table.entries.items()]

    def __contains__(self, key: object) -> bool:
        self._forget_idle()
        return key in self._table.entries

    def __len__(self) -> int:
        return len(self.items())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> NoReturn:
        raise TypeError("iterate over policy.items(): policies come and go while others use them")

    # --- ways to use it -----------------------------------------------------------------------------------------------

    def bind(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Wrap a function and nothing more; `policy(fn)` also keeps its name and signature.

        Raises:
            TypeError: there is no `key`, it names a parameter that the function does not have, or the function is a
                generator.
        """
        if self._key is None:
            raise TypeError('Keyed must know whose call it is: say Keyed(factory, key="host"), or use policy[host]')
        shape = shape_of(fn)
        if shape not in {"sync", "coroutine"}:
            raise TypeError("Keyed cannot wrap a generator: open policy[key].guard() around it")
        get = calling(self._key) if callable(self._key) else argument_of(fn, self._key, "key")
        return Bound(self, fn, get).wrapper(shape)

    def guard(self, *, key: Key) -> GateGuard | ScopeGuard | PipelineGuard:
        """A block under the policy of `key`, which may refuse; what else it would take, `policy[key].guard` takes.

        Raises:
            TypeError: that policy cannot guard a block; the message says why.
        """
        policy = self._entry(key).policy
        if not hasattr(policy, "guard"):
            raise TypeError(f"{policy!r} cannot guard a block: it has no guard()")
        guard: GateGuard | ScopeGuard | PipelineGuard = policy.guard()
        return guard

    # --- state --------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The present state as plain values, ready for JSON: how many keys there are, whether new ones share the
        overflow policy, and the state of each, by its key as text. Reads memory only; safe from any thread.
        """
        policies: dict[str, Any] = {}
        for key, policy in self.items():
            text = str(key)
            policies[repr(key) if text in policies else text] = _view(policy)
        overflow = None if self._overflow is None else _view(self._overflow.policy)
        view = {"keys": len(policies), "max_keys": self._max_keys, "full": self._full}
        return {**super().snapshot(), **view, "policies": policies, "overflow": overflow}

    def _at_rest(self) -> bool:
        with self._lock:
            entries = [*self._table.entries.values(), *([self._overflow] if self._overflow else [])]
        return all(is_at_rest(entry.policy) for entry in entries)

    def _freeze(self) -> dict[str, Any]:
        with self._lock:
            return {"table": self._table.save(), "overflow": self._overflow, "full": self._full}

    def _thaw(self, frozen: dict[str, Any]) -> None:
        with self._lock:
            later = self._table.restore(frozen["table"])
            if self._overflow is not None and self._overflow is not frozen["overflow"]:
                later.append(self._overflow)
            self._overflow, self._full = frozen["overflow"], frozen["full"]
        for entry in later:
            self._unbind(entry)


def _view(part: Any) -> dict[str, Any] | None:
    return part.snapshot() if isinstance(part, Policy) else None


def _checked_factory(factory: Callable[[Any], Any]) -> Callable[[Any], Any]:
    given: object = factory
    if isinstance(given, Policy) or not callable(given) or shape_of(factory) != "sync":
        raise wrong_type("factory", "a plain function that makes a policy for a key", factory)
    return factory


def _checked_key(key: Any) -> str | Callable[..., Any] | None:
    rule = "the name of a parameter, or a callable of the call's arguments"
    if key is not None and not isinstance(key, str) and not callable(key):
        raise wrong_type("key", rule, key)
    if isinstance(key, str) and not key.isidentifier():
        raise wrong_value("key", rule, key)
    checked: str | Callable[..., Any] | None = key
    return checked
