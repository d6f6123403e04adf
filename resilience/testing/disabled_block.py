"""Policies out of the way, for a block.

A test of what a service does wants to see the first error and not the fourth, and no circuit that an earlier test
opened. It should not have to know which policies stand where: `disabled()` means all of them, `disabled(auth0)` one
pipeline.

Which policies are disabled is a question to the blocks that are open: one that any of them covers is. So blocks may
nest, overlap and end in any order. How a policy is disabled without touching what it is bound into, is told in
`resilience.testing.disabled_shadows`.
"""

from __future__ import annotations

import threading

from resilience._hub import _Live as Live
from resilience._hub import live
from resilience.pipeline import Pipeline
from resilience.policies._base import Policy
from resilience.policies._throttle_gate import ThrottleGate
from resilience.policies.keyed import Keyed
from resilience.testing.disabled_shadows import real_class, shadow_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Self

__all__ = ["Disabled", "disabled", "join_blocks_of", "parts_of"]

# The same thread may come back: a collection of garbage in here can end a block.
_LOCK = threading.RLock()
_open: list[Disabled] = []


def disabled(*policies: Policy[Any]) -> Disabled:
    """Let calls pass as if these policies were not there, inside `with` or `async with`.

        with disabled():                # all, those built inside the block too
        with disabled(auth0, budget):   # a pipeline means its parts, a Keyed its policies, those made inside too

    Calls are neither refused, delayed, bounded, repeated nor replaced; they are not counted, and nothing is told of
    them. Functions that were decorated before follow at once, on every thread. Calls that are under way when the block
    begins are settled as ever. A policy keeps its state and goes on as it was.

    Blocks may nest: a policy is disabled while any of them covers it. Safe from any thread and task, and process-wide:
    inside the block, the policies are disabled for everybody.

    Raises:
        TypeError: something named is no policy of this library. Objects of your own that only have `bind` are called
            as ever, in pipelines too.
    """
    for policy in policies:
        given: object = policy
        if not isinstance(given, Policy):
            raise TypeError(f"disabled takes policies, got {given!r}")
        if not isinstance(given, Pipeline) and shadow_of(real_class(policy)) is None:
            raise TypeError(f"disabled cannot take a policy of an unknown kind out of the way: {given!r}")
    return Disabled(policies)


class Disabled:
    """What `disabled` returns: enter it with `with` or with `async with`, once."""

    __slots__ = ("_covered", "_everyone", "_used")

    def __init__(self, policies: tuple[Policy[Any], ...]) -> None:
        self._everyone = not policies
        self._covered = {id(part): part for policy in policies for part in parts_of(policy)}
        self._used = False

    def _covers(self, policy: Policy[Any]) -> bool:
        return self._everyone or id(policy) in self._covered

    def __enter__(self) -> Self:
        with _LOCK:
            if self._used:
                raise RuntimeError("a block of disabled policies is entered once: write disabled(...) again")
            self._used = True
            # What was made for a key since.
            self._covered |= {id(part): part for policy in list(self._covered.values()) for part in parts_of(policy)}
            _open.append(self)
            self._review()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _LOCK:
            _open.remove(self)
            self._review()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _review(self) -> None:
        """Look again at every policy that this block covers. Called with the lock held."""
        if self._everyone:
            _watch(any(block._everyone for block in _open))
        for policy in list(live) if self._everyone else self._covered.values():
            _refresh(policy)

    def _join(self, made: Policy[Any]) -> None:
        for part in parts_of(made):
            self._covered[id(part)] = part
            _refresh(part)


def _refresh(policy: Policy[Any]) -> None:
    """Give a policy the class that it should have now. Called with the lock held."""
    real = real_class(policy)
    off = any(block._covers(policy) for block in _open)
    wanted = shadow_of(real) if off else real
    if wanted is not None and type(policy) is not wanted:
        change: Any = policy
        change.__class__ = wanted
        if isinstance(policy, ThrottleGate):
            # Generated wrappers take a token where one is at hand, and ask only where none is.
            with policy._lock:
                after = policy._aftermath()
            policy._clear_up(after)


def parts_of(policy: Policy[Any]) -> Iterator[Policy[Any]]:
    """A policy and all that it is made of."""
    yield policy
    inner: list[Any] = []
    if isinstance(policy, Pipeline):
        inner = list(policy.policies)
    elif isinstance(policy, Keyed):
        with policy._lock:
            entries = [*policy._table.entries.values(), *([policy._overflow] if policy._overflow else [])]
            inner = [*(entry.policy for entry in entries), *policy._table._forgotten.values()]
    for part in inner:
        known = part
        if isinstance(part, Policy):
            yield from parts_of(known)


# --- policies that are built meanwhile --------------------------------------------------------------------------------


def join_blocks_of(keyed: Policy[Any], made: Policy[Any]) -> None:
    """Cover what a `Keyed` has just made by the blocks that name it."""
    with _LOCK:
        for block in _open:
            if not block._everyone and block._covers(keyed):
                block._join(made)


class _Watched(Live):
    """The register of live policies, while all of them are disabled: who enters is."""

    __slots__ = ()

    def add(self, policy: Policy[object]) -> None:
        """Know a new policy, and disable it."""
        super().add(policy)
        with _LOCK:
            _refresh(policy)


def _watch(on: bool) -> None:
    register: Any = live
    register.__class__ = _Watched if on else Live
