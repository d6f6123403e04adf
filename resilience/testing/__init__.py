"""What you need to test code that waits, without waiting.

Importing this package imports nothing else: each part comes in when its name is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.testing.clock import VirtualClock
    from resilience.testing.simulation import Report, Scenario, simulate
    from resilience.testing.virtual import virtual_time

__all__ = ["Report", "Scenario", "VirtualClock", "simulate", "virtual_time"]

_HOMES = {
    "Report": "simulation",
    "Scenario": "simulation",
    "VirtualClock": "clock",
    "simulate": "simulation",
    "virtual_time": "virtual",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
