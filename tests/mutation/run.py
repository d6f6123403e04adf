"""mutmut on a copy of the project.

It writes a folder of mutated code into the project and reads its settings from the project's `pyproject.toml`. Neither
belongs into a checkout, so it gets a copy of its own, with settings for the modules that were asked for.

Tests run as in a second interpreter, with few examples of each property and always the same ones: what a mutant's fate
is must not be a matter of luck. A test that takes very long beside what it took without the mutant is ended and counted
as a kill, but on a busy machine it may merely have been slow; hence those run again at the end, with more patience.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mutation.mutants import Mutant, codes, found

ROOT = Path(__file__).resolve().parents[2]
CORE = Path("resilience", "core")
_COPIED = ("resilience", "tests", "pyproject.toml", "README.md")
_MUTMUT = "from mutmut.__main__ import cli; cli()"
_SETTINGS = """
[tool.mutmut]
source_paths = ["resilience"]
only_mutate = [{files}]
also_copy = ["resilience"]
pytest_add_cli_args_test_selection = ["tests/core"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:randomly"]
use_setproctitle = false
use_git_change_detection = false
timeout_multiplier = {patience}
"""
_PATIENCE = (15.0, 60.0)  # times as long as the tests take without a mutant, at first and when it is asked again
_LOOK_EVERY = 10.0


def modules() -> list[str]:
    """The modules of the core that have code of their own."""
    return sorted(path.stem for path in (ROOT / CORE).glob("[!_]*.py"))


@contextmanager
def workshop() -> Iterator[Path]:
    """A copy of the project that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        for name in _COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, copy / name)
        yield copy


def mutate(copy: Path, chosen: list[str], children: int, tell: Callable[[str], None]) -> list[Mutant]:
    """Run the tests against every mutant of the chosen modules; `tell` hears how far it has come.

    Raises:
        RuntimeError: mutmut has failed, most likely since the tests fail without a mutant.
    """
    plain = (copy / "pyproject.toml").read_text("utf-8")
    files = ", ".join(f'"{(CORE / name).as_posix()}.py"' for name in chosen)
    mutated = copy / "mutants" / CORE
    again: list[str] = []
    for patience in _PATIENCE:
        settings = _SETTINGS.format(files=files, patience=patience)
        (copy / "pyproject.toml").write_text(plain + settings, "utf-8")
        _run(copy, ["run", "--max-children", str(children), *again], lambda: tell(_progress(codes(mutated))))
        mutants = list(found(mutated))
        again = [mutant.name for mutant in mutants if mutant.timed_out]
        if not again:
            break
        tell(f"once more, with patience: {len(again)} that took too long")
    return mutants


def _run(copy: Path, arguments: list[str], look: Callable[[], None]) -> None:
    log = copy / "mutmut.log"
    environment = {"HYPOTHESIS_PROFILE": "quick", **os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _MUTMUT, *arguments], cwd=copy, env=environment, stdout=output, stderr=output
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(_LOOK_EVERY)
                except subprocess.TimeoutExpired:
                    look()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        said = log.read_text("utf-8", "replace").replace("\r", "\n").strip().splitlines()
        raise RuntimeError("mutmut has failed:\n" + "\n".join(said[-30:]))


def _progress(so_far: list[int | None]) -> str:
    if not so_far:
        return "mutants are made"
    decided = [code for code in so_far if code is not None]
    return (
        f"{len(decided)} of {len(so_far)} mutants, {decided.count(0)} survive" if decided else "tests run without one"
    )
