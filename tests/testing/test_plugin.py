"""The pytest plugin: virtual time by naming a fixture, and nothing at all until then."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

# The interpreter that runs this need not have the package installed.
HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def run_pytest(folder: Path, tests: str, *options: str, loops: bool = True) -> dict[str, str]:
    """Run pytest on a module of tests, with the plugin; the outcome of each by name, and what was printed by ""."""
    (folder / "test_theirs.py").write_text(tests)
    plugins = "-p", "resilience.testing.plugin", *(("-p", "anyio") if loops else ()), "-p", "no:cacheprovider"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *plugins, *options, "test_theirs.py"],
        cwd=folder,
        env={**HERE, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    return {"": said, **dict(re.findall(r"^test_theirs\.py::(\S+) (PASSED|FAILED|ERROR)", said, re.MULTILINE))}


PLAIN = """
import time
import pytest
from resilience import CircuitBreaker, Retry, clock

breaker = CircuitBreaker(1, on=OSError)
retry = Retry(on=OSError, attempts=3, backoff=[60, 3600])
calls = 0

@retry
def third_time_lucky():
    global calls
    calls += 1
    if calls % 3:
        raise OSError
    return "ok"

def down():
    raise OSError

def test_waits_in_no_time(virtual_clock):
    began = time.monotonic()
    assert third_time_lucky() == "ok"
    assert virtual_clock.sleeps == [60.0, 3600.0]
    assert time.monotonic() - began < 60

def test_opens(virtual_clock):
    with pytest.raises(OSError):
        breaker.call(down)
    assert breaker.state == "open"
    virtual_clock.advance(30)
    assert breaker.state == "half_open"

def test_begins_anew(virtual_clock):
    assert breaker.state == "closed"
    breaker.open()

def test_leaves_policies_and_clock_as_they_were_built():
    assert clock.default.now is time.monotonic
    assert breaker.state == "closed"
    breaker.open()

def test_resets_before(virtual_clock):
    assert breaker.state == "closed"

def test_fails(virtual_clock):
    breaker.open()
    raise ValueError

def test_resets_after_a_failure():
    assert clock.default.now is time.monotonic
    assert breaker.state == "closed"
"""


def test_time_is_virtual_and_policies_are_reset(tmp_path: Path) -> None:
    """Tests that name the fixture wait in no time, and begin and end with policies as they were built."""
    outcomes = run_pytest(tmp_path, PLAIN)
    said = outcomes.pop("")
    assert outcomes.pop("test_fails") == "FAILED", said
    assert set(outcomes.values()) == {"PASSED"}, said
    assert len(outcomes) == 6


LOOPS = """
import asyncio
import time
import pytest
import trio
from trio.testing import MockClock
from resilience import Retry, TimedOut, Timeout, clock

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return "asyncio" if request.param == "asyncio" else ("trio", {"clock": MockClock()})

@pytest.mark.anyio
async def test_timers_are_virtual(virtual_clock, anyio_backend):
    sleep = asyncio.sleep if anyio_backend == "asyncio" else trio.sleep
    began, real = virtual_clock.now(), time.monotonic()
    await sleep(600)
    with pytest.raises(TimedOut):
        await Timeout(60).call_async(sleep, 3600)
    assert virtual_clock.now() - began == pytest.approx(660)
    assert time.monotonic() - real < 60

class TestMethods:
    @pytest.mark.anyio
    @pytest.mark.parametrize("answer", [42])
    async def test_arguments_arrive(self, answer, virtual_clock, tmp_path):
        await virtual_clock.sleep_async(600)
        assert answer == 42 and tmp_path.exists()

@pytest.mark.anyio
async def test_stands_still(virtual_clock, anyio_backend):
    await (asyncio.Event() if anyio_backend == "asyncio" else trio.Event()).wait()

@pytest.mark.anyio
async def test_without_the_fixture():
    assert clock.default.now is time.monotonic
"""


def test_a_coroutine_test_runs_in_virtual_time_from_its_first_step(tmp_path: Path) -> None:
    """On a loop, timers that no policy has set are virtual too, and a test that can never go on says who waits."""
    outcomes = run_pytest(tmp_path, LOOPS)
    said = outcomes.pop("")
    stuck = {outcomes.pop(f"test_stands_still[{loop}]") for loop in ("asyncio", "trio")}
    assert stuck == {"FAILED"}, said
    assert len(re.findall(r"^E +RuntimeError: virtual time stands still: nothing can run", said, re.MULTILINE)) == 2, (
        said
    )
    assert set(outcomes.values()) == {"PASSED"}, said
    assert len(outcomes) == 6
    assert "ERROR" not in said


def test_loads_nothing_until_it_is_used(tmp_path: Path) -> None:
    """A run of pytest in which no test names the fixture imports nothing of the kit but the plugin."""
    outcomes = run_pytest(
        tmp_path,
        """
import sys

def test_nothing_is_there():
    kit = {name for name in sys.modules if name.startswith("resilience.testing.")}
    assert kit == {"resilience.testing.plugin"}
    assert not {"trio", "hypothesis"} & set(sys.modules)
""",
        loops=False,
    )
    assert outcomes["test_nothing_is_there"] == "PASSED", outcomes[""]


def test_the_fixture_is_listed_with_what_it_does(tmp_path: Path) -> None:
    """`pytest --fixtures` shows the fixture and its first sentence."""
    said = run_pytest(tmp_path, "", "--fixtures")[""]
    assert "virtual_clock" in said
    assert "All time is virtual in the test" in said


def test_is_cheap_to_import() -> None:
    """Importing the plugin, and what its fixture begins with, imports no event loop."""
    code = """
import sys
import resilience.testing.plugin
import resilience.testing.reset
print({"asyncio", "trio"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
