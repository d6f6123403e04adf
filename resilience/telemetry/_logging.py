"""Events as lines of `logging`."""

from __future__ import annotations

from resilience import _hub
from resilience._checks import wrong_type
from resilience.telemetry._words import fields, level, spoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from resilience.events import Event

__all__ = ["to_logging"]


def to_logging(logger: str | logging.Logger = "resilience") -> Callable[[], None]:
    """Log every event of every policy.

    A line is the event's name and its fields, strings quoted; the same fields are in the record's `resilience`, a
    dict, for formatters that write JSON. Successes are DEBUG, what a person may want to look at is WARNING. A line that
    the logger does not want is not made. Safe from any thread.

    Args:
        logger: a logger, or the name of one.

    Returns:
        A function that stops it.

    Raises:
        TypeError: `logger` is neither.
    """
    import logging

    if not isinstance(logger, str | logging.Logger):
        raise wrong_type("logger", "a logger or the name of one", logger)
    log = logging.getLogger(logger) if isinstance(logger, str) else logger

    def write(event: Event) -> None:
        loudness = level(event)
        if log.isEnabledFor(loudness):
            name, told = spoken(type(event)), fields(event)
            text = " ".join([name, *[f"{key}={value!r}" for key, value in told.items() if value is not None]])
            log.log(loudness, "%s", text, extra={"resilience": {"event": name, **told}})

    return _hub.listen(write)
