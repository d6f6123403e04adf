"""The documentation is true: its code runs, its tables name what exists, its pages follow their template."""

from __future__ import annotations

import ast
import asyncio
import inspect
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import resilience
from resilience import clock, events

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)]
NOT_CODE = {"sh", "text", "{toctree}", "{eval-rst}", "{include}", "{literalinclude}"}
POLICIES = {
    "retry": resilience.Retry,
    "circuit-breaker": resilience.CircuitBreaker,
    "throttle": resilience.Throttle,
    "timeout": resilience.Timeout,
    "fallback": resilience.Fallback,
    "retry-budget": resilience.RetryBudget,
    "bulkhead": resilience.Bulkhead,
    "adaptive-limit": resilience.AdaptiveLimit,
    "adaptive-throttle": resilience.AdaptiveThrottle,
    "load-shedder": resilience.LoadShedder,
    "keyed": resilience.Keyed,
    "hedge": resilience.Hedge,
}
HEADINGS = ["When to use it", "When not", "Parameters", "Errors", "Events", "Anti-patterns", "Recipe"]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line of its first line, its text, and why it is not run, if it is not."""

    language: str
    line: int
    text: str
    illustrative: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page; `<!-- illustrative: reason -->` before one keeps it from being run."""
    reason: str | None = None
    opened: tuple[str, int] | None = None
    collected: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if opened is None and (fence := re.fullmatch(r"```(\S+).*", line)):
            opened, collected = (fence.group(1), number + 1), []
        elif opened is not None and line == "```":
            yield Block(opened[0], opened[1], "\n".join(collected) + "\n", reason)
            opened, reason = None, None
        elif opened is not None:
            collected.append(line)
        elif marked := re.fullmatch(r"<!-- illustrative: (.+) -->", line):
            reason = marked.group(1)
    assert opened is None, f"{page.name}: a block is not closed"


def run(page: Path) -> dict[str, Any]:
    """Run the Python of a page from top to bottom in one namespace, as a reader would, and return the namespace."""
    names: dict[str, Any] = {"__name__": f"docs.{page.stem.replace('-', '_')}"}
    for block in blocks(page):
        if block.language == "python" and block.illustrative is None:
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(page), "exec"), names)
    return names


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits of policies without a clock of their own pass in no time."""
    waited = 0.0
    real = clock.default.now

    def sleep(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    async def sleep_async(seconds: float) -> None:
        sleep(seconds)

    monkeypatch.setattr(clock.default, "now", lambda: real() + waited)
    monkeypatch.setattr(clock.default, "sleep", sleep)
    monkeypatch.setattr(clock.default, "sleep_async", sleep_async)


def title(page: Path) -> str:
    """A page's path below the checkout."""
    return str(page.relative_to(ROOT))


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("page", PAGES, ids=title)
def test_code_runs(page: Path) -> None:
    """Every Python block of a page runs, in order, and its assertions hold."""
    assert run(page)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    """A block is Python that runs, a command, or plain text; one that is not run gives a reason."""
    for block in blocks(page):
        assert block.language == "python" or block.language in NOT_CODE, f"line {block.line}: {block.language}"
        assert block.illustrative is None or len(block.illustrative) > 10


@pytest.mark.usefixtures("no_waiting")
def test_the_readme_example_works() -> None:
    """The first example of the README fetches through all of its policies, and survives a 503 on the way."""
    httpx = pytest.importorskip("httpx")
    answers = iter([httpx.Response(503), httpx.Response(200, json={"sub": "alice"})])

    async def fetch() -> dict[str, str]:
        transport = httpx.MockTransport(lambda request: next(answers))
        async with httpx.AsyncClient(transport=transport, base_url="http://provider.test") as client:
            return await run(ROOT / "README.md")["userinfo"](client, "token")

    assert asyncio.run(fetch()) == {"sub": "alice"}
    assert next(answers, None) is None


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_page_follows_the_template(name: str) -> None:
    """Each policy's page says when to use it and when not, and has its parameters, errors, events and anti-patterns."""
    text = (DOCS / "policies" / f"{name}.md").read_text()
    found = re.findall(r"^## (.+)$", text, re.MULTILINE)
    missing = [wanted for wanted in HEADINGS if not any(heading.startswith(wanted) for heading in found)]
    assert missing == []
    assert ".svg)" in text


def documented_parameters(name: str) -> dict[str, str]:
    """Parameter → what the second column of the page's table says of its default."""
    text = (DOCS / "policies" / f"{name}.md").read_text()
    table = text.split("\n## Parameters\n")[1].split("\n## ")[0].split("\n### ")[0]
    found: dict[str, str] = {}
    for names, default in re.findall(r"^\| (`.+?`) \| (.*?) \|", table, re.MULTILINE):
        found |= dict.fromkeys((each.lstrip("*") for each in re.findall(r"`([*\w]+)`", names)), default)
    return found


@pytest.mark.parametrize("name", POLICIES)
def test_the_parameters_of_a_page_are_those_of_the_policy(name: str) -> None:
    """The table of a page names every parameter of its policy and no other, each with the default it has."""
    signature = inspect.signature(POLICIES[name].__init__)
    actual = {parameter.name: parameter.default for parameter in list(signature.parameters.values())[1:]}
    documented = documented_parameters(name)
    assert documented.keys() == actual.keys()
    for parameter, text in documented.items():
        default = re.fullmatch(r"`([^`(]+|\(\))`", text)
        if default and not default.group(1).startswith("random"):
            value = eval(default.group(1), {"Exception": Exception, "TimeoutError": TimeoutError, "math": math})
            assert actual[parameter] == value, parameter


def test_every_test_says_what_it_tests() -> None:
    """Each test has a docstring: one sentence of behaviour."""
    mute = [
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not (ast.get_docstring(node) or "").partition("\n\n")[0].endswith(".")
    ]
    assert mute == []


def test_every_public_name_is_in_the_reference() -> None:
    """The reference has every public name of the package, and every event is in the table of events."""
    reference = (DOCS / "api.md").read_text()
    modules = {"backoff", "context", "events"}
    assert [name for name in resilience.__all__ if name not in modules and name not in reference] == []
    table = (DOCS / "events.md").read_text()
    assert [name for name in events.__all__ if name != "Event" and f"`{name}`" not in table] == []
