"""Events as entries of structlog."""

from __future__ import annotations

from resilience import _hub
from resilience.telemetry._missing import missing
from resilience.telemetry._words import fields, level, spoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.events import Event

__all__ = ["to_structlog"]


def to_structlog() -> Callable[[], None]:
    """Log every event of every policy through structlog, with the event's name and its fields as key and value.

    The logger is `structlog.get_logger("resilience")`, so how it is written is as the application has configured it.
    Safe from any thread.

    Returns:
        A function that stops it.

    Raises:
        ImportError: structlog is not installed.
    """
    try:
        import structlog
    except ImportError as error:
        raise missing("to_structlog", "structlog", "structlog") from error
    log: Any = structlog.get_logger("resilience")

    def write(event: Event) -> None:
        told: dict[str, Any] = fields(event)
        log.log(level(event), spoken(type(event)), **told)

    return _hub.listen(write)
