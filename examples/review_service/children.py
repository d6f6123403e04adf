"""Processes that this one starts, and never leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).parents[2]
"""Where `examples` can be imported from."""


class NotStarted(Exception):
    """A program ended, or kept silent, instead of being ready. What it had to say is on standard error."""


class Child:
    """`python -m module ... --until-eof`: a program that says in one JSON line on standard output that it is ready.

    It runs in a session of its own, so that Ctrl-C reaches the parent alone, which then ends its children in order.
    Should the parent be killed, the child ends with it: see `examples.auth0_standin.lifeline`.

    Args:
        module: what to run.
        arguments: its arguments.
        environ: variables to add to the environment.
        log: where its standard error goes; ours by default.
    """

    def __init__(
        self, module: str, *arguments: str, environ: Mapping[str, str] | None = None, log: IO[str] | int | None = None
    ) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._module = module
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own modules
            [sys.executable, "-m", module, *arguments, "--until-eof"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )

    def ready(self, timeout: float = 15.0) -> dict[str, Any]:
        """What it says when it is ready.

        Raises:
            NotStarted: it does not become so within `timeout` seconds.
        """
        lines: list[str] = []
        output = self.process.stdout
        if output is None:
            raise NotStarted(f"{self._module} has no output")
        waiting = threading.Thread(target=lambda: lines.append(output.readline()), daemon=True)
        waiting.start()
        waiting.join(timeout)
        try:
            said: dict[str, Any] = json.loads(lines[0])
        except (IndexError, ValueError):
            raise NotStarted(f"{self._module} did not start") from None
        return said

    def close(self) -> None:
        """End it: by letting go of it, and by force if that is not enough."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(3.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
