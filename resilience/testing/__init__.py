"""What you need to test code that waits, without waiting.

Importing this package imports nothing else: each part comes in when its name is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.testing import conformance, strategies
    from resilience.testing.chaos import Chaos
    from resilience.testing.clock import VirtualClock
    from resilience.testing.disabled_block import disabled
    from resilience.testing.interleave_threads import interleave
    from resilience.testing.proxy import FaultProxy
    from resilience.testing.reset import reset_all
    from resilience.testing.script import Call, Trace, advance, run, run_async
    from resilience.testing.simulation import Report, Scenario, simulate
    from resilience.testing.virtual import virtual_time

__all__ = [
    "Call",
    "Chaos",
    "FaultProxy",
    "Report",
    "Scenario",
    "Trace",
    "VirtualClock",
    "advance",
    "conformance",
    "disabled",
    "interleave",
    "reset_all",
    "run",
    "run_async",
    "simulate",
    "strategies",
    "virtual_time",
]

_HOMES = {
    "Call": "script",
    "Chaos": "chaos",
    "FaultProxy": "proxy",
    "Report": "simulation",
    "Scenario": "simulation",
    "Trace": "script",
    "VirtualClock": "clock",
    "advance": "script",
    "disabled": "disabled_block",
    "interleave": "interleave_threads",
    "reset_all": "reset",
    "run": "script",
    "run_async": "script",
    "simulate": "simulation",
    "virtual_time": "virtual",
}
_MODULES = ("conformance", "strategies")


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
