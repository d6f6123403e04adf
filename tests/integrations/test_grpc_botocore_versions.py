"""The oldest grpcio and botocore that are supported, tested as the newest are.

The floors are read where they are declared, as those of the other clients are. It wants an index to install from:

    python -m pytest -m slow tests/integrations/test_grpc_botocore_versions.py
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
CLIENTS = {"grpc": "grpcio", "botocore": "botocore"}
BESIDE = ("aiohttp", "cryptography", "httpx", "httpx2", "hypothesis", "pytest", "requests", "trio")
TESTS = {
    "grpc": ("test_grpc.py", "test_grpc_calls.py", "test_grpc_faults.py", "test_grpc_meaning.py"),
    "botocore": ("test_botocore.py", "test_botocore_faults.py"),
}


def floor(name: str) -> str:
    """The oldest version of a client that its extra allows."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    match = re.fullmatch(rf"{CLIENTS[name]}>=([\d.]+)", extras[name][0])
    assert match
    return match[1]


@pytest.mark.parametrize("name", CLIENTS)
def test_floors_are_said_in_the_docs(name: str) -> None:
    """The page and the module of each client name the version that its extra demands."""
    said = f"Needs {CLIENTS[name]} {floor(name)} or later"
    assert said in " ".join((ROOT / "docs" / "integrations" / f"{name}.md").read_text().split())
    assert said in (ROOT / "resilience" / "integrations" / f"{name}.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIENTS)
def test_oldest_versions(name: str, tmp_path: Path) -> None:
    """Every test of the client passes with its oldest version."""
    venv.create(tmp_path, with_pip=True)
    python = str(tmp_path / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    oldest = f"{CLIENTS[name]}=={floor(name)}"
    subprocess.run([python, "-m", "pip", "install", "--quiet", oldest, *BESIDE], check=True)
    files = [f"tests/integrations/{file}" for file in TESTS[name]]
    # An old botocore asks for the time in a way that newer Pythons warn of, and an old grpcio reports the error of an
    # interceptor once more when its call is collected, unless it is one of gRPC's own.
    old = ["-W", "ignore::DeprecationWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *old, *files]
    done = subprocess.run(run, cwd=ROOT, check=False, capture_output=True, text=True, timeout=600)
    print(oldest, done.stdout[-3000:], done.stderr[-1000:], sep="\n")
    assert done.returncode == 0
