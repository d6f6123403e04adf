"""How a call ended, as a value.

What runs beside its caller, on a worker or in a task, cannot raise to it: its end has to be carried over. An error that
is carried holds the frames that it went through, and one of them often leads back to whoever carries it; so an outcome
is read, raised or returned, and let go in the same breath.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.clock import Clock

__all__ = ["Outcome", "outcome_of"]


class Outcome:
    """A result or an error of any kind.

    Attributes:
        runner: whose it is, where several run: 0 is the call itself, its copies count from 1.
        at: the reading of a clock at the end, where somebody asks for that.
    """

    __slots__ = ("at", "error", "result", "runner")

    def __init__(
        self, result: object = None, error: BaseException | None = None, *, runner: int = 0, at: float = 0.0
    ) -> None:
        self.runner = runner
        self.at = at
        self.result = result
        self.error = error

    def get(self) -> Any:
        """The result.

        Raises:
            BaseException: the error, where there is one: the same object, with its own traceback.
        """
        if self.error is None:
            return self.result
        try:
            raise self.error
        finally:
            self.error = None


def outcome_of(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], runner: int, clock: Clock
) -> Outcome:
    """Call a plain function, and note how and when it ended."""
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        return Outcome(error=error, runner=runner, at=clock.now())
    return Outcome(result, runner=runner, at=clock.now())
