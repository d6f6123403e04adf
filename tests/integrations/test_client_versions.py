"""The oldest version of each client that is supported, tested as the newest is.

The floors are read where they are declared, in the extras of `pyproject.toml`, so a floor that is raised or lowered
there is the one that is tested here. It wants an index to install from:

    python -m pytest -m slow tests/integrations/test_client_versions.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ("aiohttp", "httpx", "httpx2", "requests", "urllib3")
BESIDE = ("cryptography", "hypothesis", "pytest", "trio")
TESTS = ("test_clients.py", "test_client_faults.py", "test_client_first.py", "test_client_release.py")


def floors() -> dict[str, str]:
    """The oldest version of each client that its extra allows."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = {name: re.fullmatch(rf"{name}>=([\d.]+)", extras[name][0]) for name in CLIENTS}
    return {name: match[1] for name, match in found.items() if match}


def test_floors_are_said_in_the_docs() -> None:
    """The page and the module of each client name the version that its extra demands."""
    stated = floors()
    assert set(stated) == set(CLIENTS)
    for name, version in stated.items():
        said = f"Needs {name} {version} or later"
        assert said in " ".join((ROOT / "docs" / "integrations" / f"{name}.md").read_text().split())
        assert said in (ROOT / "resilience" / "integrations" / f"{name}.py").read_text()


@pytest.mark.slow
def test_oldest_versions(tmp_path: Path) -> None:
    """Every test of the clients passes with the oldest version of each."""
    venv.create(tmp_path, with_pip=True)
    python = str(tmp_path / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    oldest = [f"{name}=={version}" for name, version in floors().items()]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *oldest, *BESIDE], check=True)
    files = [f"tests/integrations/{name}" for name in TESTS]
    run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(run, cwd=ROOT, check=False, capture_output=True, text=True, timeout=900)
    print(", ".join(oldest), done.stdout[-3000:], done.stderr[-1000:], sep="\n")
    assert done.returncode == 0
