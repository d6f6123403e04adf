"""A circuit taken out of service by hand."""

from __future__ import annotations

from resilience._checks import wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["Isolation", "checked_reason"]


def checked_reason(reason: object) -> str:
    """Check why a circuit is isolated."""
    if not isinstance(reason, str):
        raise wrong_type("reason", "a string", reason)
    return reason


class Isolation:
    """What `CircuitBreaker.isolate` returns: release it, or leave its block, to end it. Safe from any thread."""

    __slots__ = ("_release", "_token")

    def __init__(self, token: int, release: Callable[[int], bool]) -> None:
        self._token = token
        self._release = release

    def release(self) -> bool:
        """End this isolation. False, and no effect, if it has ended before."""
        return self._release(self._token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
