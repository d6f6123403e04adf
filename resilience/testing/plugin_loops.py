"""Coroutine tests that use the fixture `virtual_clock`.

Whatever runs such a test, the plugin of anyio or another, begins a loop and awaits the test in it. So the test is
wrapped: the first thing that it does is to hand its loop over to virtual time, and if time came to a stand there, the
error that names who waits is raised where the test would have ended.
"""

from __future__ import annotations

from functools import wraps

from resilience._runtime import current_runtime, is_cancellation
from resilience._shape import shape_of
from resilience.clock import default
from resilience.testing.virtual import VirtualTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["drive"]


def drive(item: Any) -> None:
    """Have a test that pytest is about to call run in virtual time from its first step, if it is a coroutine's."""
    test: Any = getattr(item, "obj", None)
    clock: Any = getattr(default.now, "__self__", None)
    if isinstance(clock, VirtualTime) and callable(test) and shape_of(test) == "coroutine":

        @wraps(test)
        async def driven(*args: Any, **kwargs: Any) -> Any:
            return await _driven(clock, test, args, kwargs)

        item.obj = driven


async def _driven(clock: VirtualTime, test: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    clock._take_over(current_runtime(), whole=True)
    whole, clock._whole = clock._whole, None
    error: BaseException | None = None
    try:
        return await test(*args, **kwargs)
    except BaseException as raised:
        error = raised
        raise
    finally:
        if whole is not None:
            whole.leave(error)
            stood_still, error = whole.error if error is None or is_cancellation(error) else None, None
            if stood_still is not None:
                raise stood_still from None
