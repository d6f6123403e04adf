"""The layers: what each may import, and what importing the package may cost.

A pure core is one that cannot read a clock, draw a number, start a thread or know its caller. The imports are read from
the syntax tree, so an import inside a function is seen too.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "resilience"
IMPURE = {"time", "random", "secrets", "threading", "_thread", "contextvars"} | {"asyncio", "trio", "logging"}
IMPURE |= {"datetime", "os", "socket"}
HEAVY = ["asyncio", "logging", "typing", "dataclasses", "inspect", "random", "datetime", "trio"]

# The lower the number, the lower the layer; a module may import its own layer and those below. The longest prefix
# decides, so the second line stands for errors, clock, events, matching, context, backoff, drivers and the like.
LAYERS = {
    "resilience._checks": -1,
    "resilience.core": 0,
    "resilience": 1,
    "resilience.policies": 2,
    "resilience.pipeline": 3,
    "resilience.http": 4,
    "resilience.stores": 4,
    "resilience.testing": 5,
    "resilience.integrations": 5,
    "resilience.telemetry": 5,
    "resilience.status": 5,
    "resilience.__main__": 6,
}


def module_name(path: Path) -> str:
    """The dotted name under which a file of the package is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_only(node: ast.If) -> bool:
    """Whether a block runs for type checkers alone."""
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> set[str]:
    """Every module that a file imports at run time, anywhere in it; `from a import b` gives `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and is_type_only(node):
            for other in node.orelse:
                found |= imports(ast.Module([other], []))
        else:
            found |= imports(node)
    return found


def layer(module: str) -> int:
    """The layer of a module of the package."""
    parts = module.split(".")
    while ".".join(parts) not in LAYERS:
        parts.pop()
    return LAYERS[".".join(parts)]


FILES = sorted(PACKAGE.rglob("*.py"))
CORE = [path for path in FILES if (PACKAGE / "core") in path.parents or path.name == "_checks.py"]


@pytest.mark.parametrize("path", CORE, ids=module_name)
def test_core_is_pure(path: Path) -> None:
    """A core reads no clock, draws no number, starts nothing and touches no system."""
    tops = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    assert not tops & IMPURE


def test_code_is_generated_in_one_place() -> None:
    """Only the compiler of wrappers runs text as code."""
    places = {
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"exec", "eval"}
    }
    assert places == {"_compile.py"}


@pytest.mark.parametrize("path", CORE, ids=module_name)
def test_core_imports_nothing_above_it(path: Path) -> None:
    """A core knows the other cores and the wording of rules for parameters, and nothing else of the package."""
    own = {name for name in imports(ast.parse(path.read_text())) if name.split(".")[0] == "resilience"}
    assert {name for name in own if not name.startswith(("resilience.core", "resilience._checks"))} <= {"resilience"}


@pytest.mark.parametrize("path", [path for path in FILES if path != PACKAGE / "__init__.py"], ids=module_name)
def test_arrows_point_down(path: Path) -> None:
    """No module imports from a layer above its own."""
    name = module_name(path)
    modules = {module_name(other) for other in FILES} - {"resilience"}
    upward = {other for other in imports(ast.parse(path.read_text())) & modules if layer(other) > layer(name)}
    assert not upward


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_validation_survives_optimisation(path: Path) -> None:
    """Nothing in the package is checked with `assert`, which `python -O` removes."""
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]


PROBE = """
import json, sys
sys.path.insert(0, {root!r})
before = set(sys.modules)
import resilience
import _thread
loaded = sorted(set(sys.modules) - before)
print(json.dumps({{"loaded": loaded, "all": sorted(sys.modules), "threads": _thread._count()}}))
"""


def probe() -> dict[str, object]:
    """What a fresh interpreter without site packages has after `import resilience`."""
    code = PROBE.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_import_stays_light() -> None:
    """Importing the package loads none of the heavy modules of the standard library and nothing from outside it."""
    loaded = probe()["all"]
    assert isinstance(loaded, list)
    assert not set(HEAVY) & set(loaded)


def test_import_starts_no_thread() -> None:
    """Importing the package starts no thread."""
    assert probe()["threads"] == 0
