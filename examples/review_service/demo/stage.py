"""The processes of a run, and the hands that break them: the provider by its switches, the database by its lock."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import urllib3

from examples.review_service.children import Child, NotStarted
from examples.review_service.demo.script import Trouble
from examples.review_service.models.seed import READERS, reader

FOR_EVER = 1_000_000_000
SCOPE = "openid profile read:reviews write:reviews"


class Provider:
    """The provider as the demonstration sees it: an address, and a control panel."""

    def __init__(self, child: Child) -> None:
        self.issuer: str = child.ready()["provider"]
        self._http = urllib3.PoolManager(timeout=5.0, retries=False)

    def tokens(self) -> list[str]:
        """One token for each reader."""
        return [self._control("token", sub=reader(number), scope=SCOPE)["access_token"] for number in range(READERS)]

    def calls(self) -> int:
        """How often `/userinfo` was called so far."""
        state: dict[str, Any] = self._http.request("GET", f"{self.issuer}control").json()
        return int(state["calls"].get("/userinfo", 0))

    def suffer(self, trouble: Trouble) -> None:
        """Answer nothing, or nothing but errors, or be well."""
        self._control("faults", hang=trouble is Trouble.HANGS, errors=FOR_EVER if trouble is Trouble.FAILS else 0)

    def reset(self) -> None:
        """Be as on the first day."""
        self._control("reset")

    def _control(self, verb: str, **wanted: object) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.request("POST", f"{self.issuer}control/{verb}", json=wanted).json()
        return answer


class Lock:
    """Holds the database's lock, as a stuck backup would: nobody else gets in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def hold(self, on: bool) -> None:
        """Take the lock, or let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if on:
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=2.0)
            self._connection.execute("BEGIN EXCLUSIVE")


class Service:
    """The service in a process of its own, and what it writes down about its circuits."""

    on_turn: Callable[[str, str], None] | None = None
    """Called with a policy's name and its new state."""

    def __init__(self, provider: Provider, database: Path, *, protected: bool) -> None:
        environ = {"REVIEWS_ISSUER": provider.issuer, "REVIEWS_DATABASE_URL": f"sqlite:///{database}"}
        options = () if protected else ("--without-policies",)
        self.database = database
        self._child = Child(
            "examples.review_service", "serve", "--port", "0", *options, environ=environ, log=subprocess.PIPE
        )
        self._said: list[str] = []
        self._reading = threading.Thread(target=self._read, args=(self._child.process.stderr,), daemon=True)
        self._reading.start()

    def address(self) -> str:
        """Where it is, once it is ready.

        Raises:
            NotStarted: it does not become so; the message ends with what it had to say.
        """
        try:
            return str(self._child.ready()["service"])
        except NotStarted as error:
            self.close()
            raise NotStarted("\n".join([str(error), *self._said])) from None

    def _read(self, log: IO[str]) -> None:
        for line in log:
            try:
                entry = json.loads(line)
            except ValueError:
                self._said.append(line.rstrip())
                continue
            if entry.get("event") == "circuit" and self.on_turn is not None:
                self.on_turn(entry["policy"], entry["state"])

    def close(self) -> None:
        """End the process, and hear it out."""
        self._child.close()
        self._reading.join(2.0)
        if self._child.process.stderr is not None:
            self._child.process.stderr.close()


def break_(provider: Provider, lock: Lock, trouble: Trouble) -> None:
    """Make `trouble` the only thing that is wrong."""
    lock.hold(trouble is Trouble.LOCKED)
    provider.suffer(trouble)
