"""What every test shares: Hypothesis profiles and the two event loops.

Profiles: `dev` while working, `ci` derandomized so that a build never fails by luck, `quick` for a second
interpreter, `thorough` for a long search. `HYPOTHESIS_PROFILE` chooses one; without it, `ci` where the variable `CI` is
set, else `dev`. None has a deadline: a busy machine is not a bug.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from resilience._hub import HUB

_SLOW_MACHINES_ARE_NO_BUG = [HealthCheck.too_slow]

settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW_MACHINES_ARE_NO_BUG)
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # it traces every line, and a build has to end
    suppress_health_check=_SLOW_MACHINES_ARE_NO_BUG,
)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=20)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run a test marked `anyio` once on each event loop."""
    return request.param


@pytest.fixture(autouse=True)
def nobody_looks_for_ever() -> Iterator[None]:
    """A board of the live page listens for a minute after the last look, and the next test begins before that."""
    yield
    for listener in HUB.listeners:
        board = getattr(listener.callback, "__self__", None)
        if type(board).__name__ == "Board":
            board.rest()


@pytest.fixture(autouse=True, scope="session")
def _wrapper() -> Iterator[None]:
    """Wrap as `RESILIENCE_WRAPPER` says: "closures" or "generated"; without it, as the package does."""
    from tests.test_compile_everywhere import choose

    with pytest.MonkeyPatch.context() as patch:
        choose(patch, os.environ.get("RESILIENCE_WRAPPER"))
        yield


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave ten thousand collected tests out of every later collection of garbage, of which tests of ours make many."""
    gc.collect()
    gc.freeze()


# --- skips ------------------------------------------------------------------------------------------------------------

_MUST_NOT_SKIP = "RESILIENCE_MUST_NOT_SKIP"
"""Set where everything is installed that a test may need: what is skipped there has failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skipped test fail where nothing is missing."""
    report = yield
    _not_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let a skipped file fail where nothing is missing."""
    report = yield
    _not_skipped(report)
    return report


def _not_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(_MUST_NOT_SKIP):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, where nothing is missing: {report.longrepr}"
