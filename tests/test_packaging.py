"""The distribution: what it promises, what it carries, and that its parts agree with each other."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import resilience

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()

DEMO_COMMAND = (
    "python3 -m venv .venv && .venv/bin/pip install -q '.[demo]' && .venv/bin/python -m examples.review_service"
)
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest"


def test_no_runtime_dependency() -> None:
    """Installing the package installs nothing else."""
    assert PROJECT["dependencies"] == []


def test_package_is_typed() -> None:
    """Type checkers are told that the package carries its types."""
    assert (ROOT / "resilience" / "py.typed").is_file()


def test_installed_version_is_the_one_in_the_changelog_or_unreleased() -> None:
    """The installed distribution is this checkout's, and its version has a place in the changelog."""
    version = metadata.version("resilience-policies")
    assert version == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {version}" in changelog or "## Unreleased" in changelog


def test_public_names_are_sorted_and_exist() -> None:
    """`__all__` is sorted, has no duplicates, and each of its names can be had."""
    names = list(resilience.__all__)
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(resilience, name)] == []


def test_public_names_are_all_there_is() -> None:
    """`dir(resilience)` shows the public names, and no other that looks public unless it is a module of the package."""
    modules = {path.stem for path in (ROOT / "resilience").iterdir()}
    public = {name for name in dir(resilience) if not name.startswith("_")}
    assert public - set(resilience.__all__) - modules == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that the package does not have fails as in any module."""
    assert not hasattr(resilience, "CircuitBraker")


def test_readme_prints_the_two_commands() -> None:
    """The README gives the demo and the test command, each whole and on one line."""
    lines = {line.strip() for line in README.splitlines()}
    assert DEMO_COMMAND in lines
    assert TEST_COMMAND in lines


def test_ci_runs_the_test_command() -> None:
    """The continuous check installs and tests by the README's own command."""
    script = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"pip\" install -q -e '\.\[test\]'\n.*-m pytest", script)


def test_extras_are_whole() -> None:
    """`test` holds what the demo needs, and `dev` holds `test`, so that one extra is enough for each purpose."""
    extras = PROJECT["optional-dependencies"]
    assert "resilience-policies[demo]" in extras["test"]
    assert any(re.fullmatch(r"resilience-policies\[.*\btest\b.*\]", requirement) for requirement in extras["dev"])
