"""No name in a template can be the name of a parameter: the list of names is derived from the templates."""

from __future__ import annotations

import ast
import builtins
import inspect
from typing import Any

import pytest

from resilience import CircuitBreaker, Pipeline, Retry, RetryBudget, Throttle, Timeout, _compile, _templates
from resilience._templates import RESERVED, WORDS, source

NUMBERED = [(template, word) for template in _templates._LAYERS for word in WORDS if "retry" not in template]
RETRIES = [(template, "retry") for template in _templates._LAYERS if "retry" in template]


def names_in(text: str) -> set[str]:
    """Every name that code reads or binds, attributes and what is local to `make` alone left out."""
    tree = ast.parse(text)
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name}
    found |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {name.rstrip("0123456789") for name in found} - {"call", "theirs"}


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("layer", NUMBERED + RETRIES, ids="-".join)
def test_each_name_in_a_template_is_reserved(layer: tuple[str, str], awaits: bool) -> None:
    """Whatever the layer, alone or around another, each name in its text is one that no parameter may have."""
    for layers in ((layer,), (layer, ("gate", "bulkhead"))):
        text = source(layers, ("_function",), "theirs", "theirs", awaits=awaits)
        assert names_in(text) <= RESERVED


def test_nothing_is_reserved_that_no_template_has() -> None:
    """A name that has gone out of use is free for parameters."""
    found: set[str] = set()
    for awaits in (False, True):
        for layer in NUMBERED + RETRIES:
            found |= names_in(source((layer,), ("_function",), "theirs", "theirs", awaits=awaits))
    cells = {"_clock", "_ledger", "_times", "_burst", "_unit", "_quick", "_budget"}
    assert found | cells == RESERVED


def test_what_wrappers_read_of_the_interpreter_is_reserved() -> None:
    """A parameter that has the name of a built-in that a template uses would stand before it."""
    used = {name for name in RESERVED if not name.startswith("_")}
    assert used and all(hasattr(builtins, name) for name in used)


def everything() -> Pipeline[Any]:
    """A pipeline of which every layer is written out."""
    return Pipeline(
        Timeout(5, thread=False),
        Retry(on=OSError, budget=RetryBudget(), within=3),
        CircuitBreaker(name="names"),
        Throttle("100/s"),
    )


@pytest.mark.parametrize(
    "name", [*sorted(RESERVED - {"Exception", "BaseException"}), "_permit2", "_started07", "_breaker"]
)
def test_a_parameter_of_a_reserved_name_is_passed_on(name: str) -> None:
    """A function with such a parameter is wrapped all the same, and gets what it was called with."""
    made: dict[str, Any] = {}
    exec(f"def fetch({name}, /, *_args, _next_one=3, **_kwargs): return {name}, _args, _next_one, _kwargs", made)
    fetch: Any = made["fetch"]
    wrapped: Any = everything()(fetch)
    assert wrapped(1, 2, _next_one=4, **{name: 5}) == fetch(1, 2, _next_one=4, **{name: 5})
    assert inspect.signature(wrapped) == inspect.signature(fetch)
    assert _compile._is_unfit(name)
