"""The four shapes of a callable: what must a wrapper of it be?

A wrapper of `async def` has to be `async def` itself, or frameworks that look at it would call it on a thread; and
nothing may be acquired before a coroutine's first step, or one that is never awaited would hold a place for ever. So
the shape is decided once, when decorating, from the function's own flags: through partials, bound methods and objects
with a `__call__`.
"""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Shape = Literal["sync", "coroutine", "generator", "async_generator"]

__all__ = ["close_coroutine", "is_awaitable", "shape_of"]

_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200


def shape_of(fn: Any) -> Shape:
    """Say which of the four shapes a callable has."""
    while isinstance(fn, functools.partial | functools.partialmethod):
        fn = fn.func
    flags = _flags(fn)
    if flags is None and not isinstance(fn, type):
        kind: Any = fn.__class__
        flags = _flags(getattr(kind, "__call__", None))  # noqa: B004 - which, not whether
    if flags is None:
        return "sync"
    if flags & (_COROUTINE | _ITERABLE_COROUTINE) or getattr(fn, "_is_coroutine_mark", None) is not None:
        return "coroutine"
    if flags & _ASYNC_GENERATOR:
        return "async_generator"
    return "generator" if flags & _GENERATOR else "sync"


def _flags(fn: object) -> int | None:
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    flags = getattr(code, "co_flags", None)
    return flags if isinstance(flags, int) else None


def is_awaitable(value: object) -> bool:
    """Whether `await value` would work."""
    return hasattr(type(value), "__await__")


def close_coroutine(value: object) -> None:
    """Close a coroutine that will not be awaited, so that it does not warn."""
    close = getattr(value, "close", None)
    if callable(close):
        close()
