"""The few places where a policy meets a call.

There are four kinds of policy, and a policy says which it is by the driver it binds with. A driver knows how to call,
sync or async or as a generator; a policy knows what to decide; neither does the other's work.

    gate    lets a call in or refuses it, and hears how it ended       breaker, throttle, bulkhead, limits
    loop    calls again                                                retry (in `_loop_driver`), hedge (`_race`)
    scope   bounds the time of what is inside                          timeout
    value   replaces an outcome                                        fallback

What a driver returns is a bare closure of the function: the fast path is written out in it, so that a call that
succeeds costs an attribute or two and no further frame. Two rules hold in each of them. An error is never kept in a
local beyond its `except` block, since a frame that holds an error that holds the frame is a cycle. And a permit is
claimed inside the `try` that settles it, so that it comes
back on every way out: result, error, cancellation, or a generator that is thrown away.
"""

from __future__ import annotations

from resilience._shape import shape_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any

    from resilience._kinds import Gate, Scoped, Value

    Fn = Callable[..., Any]

__all__ = ["bind_gate", "bind_scope", "bind_value"]


# --- gate -------------------------------------------------------------------------------------------------------------


def bind_gate(gate: Gate, fn: Fn) -> Fn:
    """Put a gate before a function of any shape. A generator holds its permit from the first step to its end."""
    shape = shape_of(fn)
    if shape == "sync":
        return _gate_sync_timed(gate, fn) if gate._timed else _gate_sync(gate, fn)
    if shape == "coroutine":
        return _gate_async_timed(gate, fn) if gate._timed else _gate_async(gate, fn)
    return _gate_generator(gate, fn) if shape == "generator" else _gate_async_generator(gate, fn)


def _gate_sync(gate: Gate, fn: Fn) -> Fn:
    def gated(*args: Any, **kwargs: Any) -> Any:
        permit = gate._permit
        try:
            if permit < 0:
                permit = gate._admit(args, kwargs)
            result = fn(*args, **kwargs)
        except BaseException as error:
            if permit >= 0:
                gate._raised(permit, error, 0.0)
            raise
        if gate._clean != permit:
            gate._returned(permit, result, 0.0)
        return result

    return gated


def _gate_sync_timed(gate: Gate, fn: Fn) -> Fn:
    def gated(*args: Any, **kwargs: Any) -> Any:
        permit = gate._permit
        started = 0.0
        try:
            if permit < 0:
                permit = gate._admit(args, kwargs)
            started = gate._now()
            result = fn(*args, **kwargs)
        except BaseException as error:
            if permit >= 0:
                gate._raised(permit, error, started)
            raise
        gate._returned(permit, result, started)
        return result

    return gated


def _gate_async(gate: Gate, fn: Fn) -> Fn:
    async def gated(*args: Any, **kwargs: Any) -> Any:
        permit = gate._permit
        try:
            if permit < 0:
                permit = await gate._admit_async(args, kwargs)
            result = await fn(*args, **kwargs)
        except BaseException as error:
            if permit >= 0:
                gate._raised(permit, error, 0.0)
            raise
        if gate._clean != permit:
            gate._returned(permit, result, 0.0)
        return result

    return gated


def _gate_async_timed(gate: Gate, fn: Fn) -> Fn:
    async def gated(*args: Any, **kwargs: Any) -> Any:
        permit = gate._permit
        started = 0.0
        try:
            if permit < 0:
                permit = await gate._admit_async(args, kwargs)
            started = gate._now()
            result = await fn(*args, **kwargs)
        except BaseException as error:
            if permit >= 0:
                gate._raised(permit, error, started)
            raise
        gate._returned(permit, result, started)
        return result

    return gated


def _gate_generator(gate: Gate, fn: Fn) -> Fn:
    def gated(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        permit = gate._permit
        started = 0.0
        try:
            if permit < 0:
                permit = gate._admit(args, kwargs)
            started = gate._now()
            steps: Generator[Any, Any, Any] = fn(*args, **kwargs)
            result = yield from steps
        except BaseException as error:
            if permit >= 0:
                gate._raised(permit, error, started)
            raise
        gate._returned(permit, result, started)
        return result

    return gated


def _gate_async_generator(gate: Gate, fn: Fn) -> Fn:
    async def gated(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        permit = gate._permit
        started = 0.0
        try:
            if permit < 0:
                permit = await gate._admit_async(args, kwargs)
            started = gate._now()
            inner = fn(*args, **kwargs)
            try:
                step = await inner.__anext__()
                while True:
                    try:
                        sent = yield step
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        step = await inner.athrow(thrown)
                    else:
                        step = await inner.asend(sent)
            except StopAsyncIteration:
                pass
            finally:
                await inner.aclose()
        except BaseException as error:
            if permit >= 0:
                gate._raised(permit, error, started)
            raise
        gate._returned(permit, None, started)

    return gated


# --- scope ------------------------------------------------------------------------------------------------------------


def bind_scope(scoped: Scoped, fn: Fn, refusal: str) -> Fn:
    """Run a function inside a scope. A generator runs in pieces, between which its caller's time passes."""
    shape = shape_of(fn)
    if shape == "sync":

        def bounded(*args: Any, **kwargs: Any) -> Any:
            with scoped._scope():
                return fn(*args, **kwargs)

        return bounded
    if shape == "coroutine":

        async def bounded_async(*args: Any, **kwargs: Any) -> Any:
            with scoped._cut_scope():
                return await fn(*args, **kwargs)

        return bounded_async
    raise TypeError(refusal)


# --- value ------------------------------------------------------------------------------------------------------------


def bind_value(value: Value, fn: Fn, refusal: str) -> Fn:
    """Replace a function's outcome. What stands in is made inside the `except`, so that its own failure shows the first
    error.
    """
    shape = shape_of(fn)
    if shape == "sync":

        def replaced(*args: Any, **kwargs: Any) -> Any:
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                if not value._replaces_error(error):
                    raise
                return value._substitute(error, args, kwargs)
            if value._replaces_result(result):
                return value._substitute(value._refused(result), args, kwargs)
            return result

        return replaced
    if shape == "coroutine":

        async def replaced_async(*args: Any, **kwargs: Any) -> Any:
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                if not value._replaces_error(error):
                    raise
                instead = value._substitute(error, args, kwargs)
                return await instead if value._awaits else instead
            if value._replaces_result(result):
                instead = value._substitute(value._refused(result), args, kwargs)
                return await instead if value._awaits else instead
            return result

        return replaced_async
    raise TypeError(refusal)
