"""Every test of a driver, on generated wrappers.

`policy.call` goes by the closures, and so do most scenarios. With RESILIENCE_WRAPPER=generated in the environment, a
run of the suite sends them through generated wrappers instead; with RESILIENCE_WRAPPER=closures, decorated functions go
by closures too. `choose` is what the suite's conftest calls.
"""

from __future__ import annotations

import os
from types import FunctionType
from typing import Any

import pytest

from resilience import Pipeline, Retry, _compile
from resilience._hub import HUB
from resilience.policies._base import Policy

CALL: Any = Policy.call
CALL_ASYNC: Any = Policy.call_async


class Generated:
    """Stands in for a policy in `call`, and binds as a decorator would."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def bind(self, fn: Any) -> Any:
        """The wrapper that decorating makes."""
        return _compile.compiled(self._policy._chain(), fn) or self._policy.bind(fn)


def _call(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    return CALL(Generated(self), fn, *args, **kwargs)


async def _call_async(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    return await CALL_ASYNC(Generated(self), fn, *args, **kwargs)


def _ours(function: Any) -> Any:
    # Warnings are laid at the door of the first frame outside the package, and this is to be none.
    return FunctionType(function.__code__, {**globals(), "__name__": "resilience.tests"})


def choose(patch: pytest.MonkeyPatch, wrapper: str | None) -> None:
    """Send every call of a policy by one kind of wrapper: "generated", "closures", or each by its own (None)."""
    if wrapper not in {None, "generated", "closures"}:
        raise ValueError(f"RESILIENCE_WRAPPER is generated or closures, got {wrapper!r}")
    patch.setattr(_compile, "ENABLED", wrapper != "closures")
    if wrapper == "generated":
        patch.setattr(Policy, "call", _ours(_call))
        patch.setattr(Policy, "call_async", _ours(_call_async))


@pytest.mark.parametrize(("wrapper", "names"), [("generated", True), ("closures", False)])
def test_the_wrapper_can_be_chosen(wrapper: str, names: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch decides what a call goes by, generated code or closures."""
    choose(monkeypatch, wrapper)
    monkeypatch.setattr(HUB, "heard", False)
    seen: list[str] = []

    def look(x: int) -> int:
        import sys

        seen.append(sys._getframe(1).f_code.co_filename)
        return x

    policy = Pipeline(Retry(on=ValueError))
    assert policy.call(look, 1) == policy(look)(1) == 1
    assert [name.startswith("<resilience wrapper") for name in seen] == [names, names]


def test_an_unknown_wrapper_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt choice is an error, not a run of the wrong thing."""
    with pytest.raises(ValueError, match="generated or closures"):
        choose(monkeypatch, "compiled")
    assert os.environ.get("RESILIENCE_WRAPPER") in {None, "generated", "closures"}
