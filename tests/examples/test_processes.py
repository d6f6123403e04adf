"""The programs as a user starts them: how they begin, how they end, and what they say when they cannot do either."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import urllib3

from examples.auth0_standin.server import ProviderServer
from examples.review_service.__main__ import main
from examples.review_service.children import ROOT, Child

HTTP = urllib3.PoolManager(retries=False, timeout=10.0)


def clean(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without any setting of the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REVIEWS_")} | {**(environ or {})}


def run(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A program that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=clean(environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def started(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A program that keeps its temporary files in `folder`, and what it said when it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=clean({"TMPDIR": str(folder), **(environ or {})}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that are still there, of whatever generation (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found += [int(entry.name), *children_of(int(entry.name))]
    return found


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        threading.Event().wait(0.05)
    return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")


SERVE = ("examples.review_service", "serve", "--port", "0", "--provider-port", "0")


@on_linux
def test_serve_and_token_work_together(tmp_path: Path) -> None:
    """A ready line, a token, a page with it, with the provider killed too; told to stop, it leaves nothing behind."""
    with started(tmp_path, *SERVE) as (process, said):
        assert said.keys() == {"service", "provider", "status"}
        assert said["status"] == said["service"] + "/status"
        page, metrics = HTTP.request("GET", said["status"] + "/"), HTTP.request("GET", f"{said['service']}/metrics")
        assert (page.status, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
        assert (metrics.status, b"# TYPE resilience_events_total counter" in metrics.data) == (200, True)
        (provider,) = children_of(process.pid)
        wanted = ("--sub", "auth0|bob", "--scope", "read:reviews", "--ttl", "60")
        token = run("examples.review_service", "token", *wanted, environ={"REVIEWS_ISSUER": said["provider"]})
        assert (token.returncode, token.stderr) == (0, "")
        headers = {"Authorization": f"Bearer {token.stdout.strip()}"}
        answer = HTTP.request("GET", f"{said['service']}/review/4", headers=headers)
        assert (answer.status, answer.json()["viewer"]["id"]) == (200, "auth0|bob")
        assert HTTP.request("GET", f"{said['service']}/review/1").status == 401
        os.kill(provider, signal.SIGKILL)
        assert gone(provider)
        assert HTTP.request("GET", f"{said['service']}/review/1", headers=headers).status == 200
        HTTP.clear()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10.0) == 0
        assert children_of(process.pid) == []
        assert list(tmp_path.iterdir()) == []


@on_linux
@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_serve_takes_its_provider_with_it(how: signal.Signals, status: int, tmp_path: Path) -> None:
    """However it ends, by Ctrl-C or by force, the provider that it started ends too."""
    with started(tmp_path, *SERVE) as (process, _):
        (provider,) = children_of(process.pid)
        process.send_signal(how)
        assert process.wait(10.0) == status
        assert gone(provider)


def test_serve_is_ready_without_a_provider(tmp_path: Path) -> None:
    """With an issuer that nobody listens at: ready, a 503 for tokens, and a database where it was asked for."""
    environ = {
        "REVIEWS_ISSUER": f"http://127.0.0.1:{free_port()}",
        "REVIEWS_DATABASE_URL": f"sqlite:///{tmp_path}/reviews.sqlite3",
    }
    with started(tmp_path, "examples.review_service", "serve", "--port", "0", environ=environ) as (_, said):
        assert said["provider"] == environ["REVIEWS_ISSUER"] + "/"
        assert HTTP.request("GET", f"{said['service']}/readyz").status == 200
        headers = {"Authorization": "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.AAAA"}
        answer = HTTP.request("GET", f"{said['service']}/review/1", headers=headers)
        assert (answer.status, answer.json()["type"]) == (503, "urn:problem:reviews:keys-unavailable")
        HTTP.clear()
    assert (tmp_path / "reviews.sqlite3").exists()


def _raw(address: str, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Send bytes that no client library would send."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10.0) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, json.loads(body)


CLOSE = b"Host: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def live() -> Iterator[str]:
    """A service in a process of its own, without a provider."""
    environ = {"REVIEWS_ISSUER": f"http://127.0.0.1:{free_port()}", "REVIEWS_DATABASE_URL": "sqlite://"}
    with Child("examples.review_service", "serve", "--port", "0", environ=environ, log=subprocess.DEVNULL) as child:
        yield child.ready()["service"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /review/1 HTTP/9.9\r\n" + CLOSE, 401),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 262_300, 431),
        (b"GET /review/1 HTTP/1.1\r\nAuthorization: Bearer " + b"a" * 200_000 + b"\r\n" + CLOSE, 401),
        (b"GET /review/1 HTTP/1.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n" + CLOSE, 401),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + CLOSE, 404),
        (b"GET /%ff%fe%00 HTTP/1.1\r\n" + CLOSE, 404),
        (b"GET /review/%ff HTTP/1.1\r\n" + CLOSE, 401),
        (b"POST /review HTTP/1.1\r\nContent-Length: 99999999\r\n" + CLOSE, 413),
        (b"POST /review HTTP/1.1\r\nContent-Length: -1\r\n" + CLOSE, 400),
        (b"POST /review HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"zz\r\n", 400),
        (b"POST /review HTTP/1.1\r\nTransfer-Encoding: magic\r\n" + CLOSE, 501),
        (b"GET /healthz HTTP/1.1\r\nBad Header: 1\r\n" + CLOSE, 400),
    ],
)
def test_what_is_no_request_gets_a_problem_too(request_: bytes, status: int, live: str) -> None:
    """Even what never reaches the application is answered in the same form, and never with a 500."""
    answered, headers, problem = _raw(live, request_)
    assert answered == status == problem["status"]
    assert headers["content-type"] == "application/problem+json"


def test_clients_that_send_slowly_keep_nobody_waiting(live: str) -> None:
    """A hundred connections that never finish their request cost no thread."""
    host, port = live.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=10.0))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        start = time.perf_counter()
        assert HTTP.request("GET", f"{live}/healthz").status == 200
        assert time.perf_counter() - start < 5.0
    HTTP.clear()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str]]]:
    """The command line in this process: status and standard error; nothing may be on standard output."""

    def call(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str]:
        for name in [name for name in os.environ if name.startswith("REVIEWS_")]:
            monkeypatch.delenv(name)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        try:
            status = main(arguments)
        except SystemExit as left:
            status = int(left.code or 0)
        output = capfd.readouterr()
        assert output.out == ""
        return status, output.err

    before = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("which", ["service", "provider"])
def test_a_port_that_is_taken_is_a_clear_error(which: str, command: Callable[..., tuple[int, str]]) -> None:
    """The message names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"service": (port, "0"), "provider": ("0", port)}[which]
        status, said = command(["serve", "--port", ports[0], "--provider-port", ports[1]], {})
    assert status == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "environ", "status", "message"),
    [
        (["token", "--sub", "x", "--scope", "y"], {"REVIEWS_ISSUER": "http://127.0.0.1:1/"}, 1, "no provider answers"),
        (["token", "--sub", "x"], {}, 2, "--scope"),
        (["token", "--sub", "x", "--scope", "y", "--ttl", "z"], {}, 2, "--ttl"),
        (["token", "--sub", "x", "--scope", "y"], {"REVIEWS_ISSUER": "nonsense"}, 2, "issuer must be"),
        (["serve", "--port", "99999"], {}, 2, "cannot listen on 127.0.0.1:99999"),
        (["serve", "--port", "0"], {"REVIEWS_ISSUER": "nonsense"}, 2, "issuer must be"),
        (["serve", "--port", "0"], {"REVIEWS_ISSUER": "http://x/", "REVIEWS_DATABASE_URL": "?"}, 2, "database URL"),
        (["serve", "--prot", "0"], {}, 2, "--prot"),
        (["nonsense"], {}, 2, "nonsense"),
    ],
)
def test_a_mistake_gets_a_message_and_no_traceback(
    arguments: list[str],
    environ: dict[str, str],
    status: int,
    message: str,
    command: Callable[..., tuple[int, str]],
) -> None:
    """Exit status 1 or 2, and a sentence that says what to do."""
    left, said = command(arguments, environ)
    assert left == status
    assert message in said
    assert "Traceback" not in said


def test_a_provider_that_mints_nothing_is_not_the_standin(command: Callable[..., tuple[int, str]]) -> None:
    """`token` asked of a service that is none says so."""
    with ProviderServer() as provider:
        environ = {"REVIEWS_ISSUER": f"{provider.issuer}nowhere/"}
        status, said = command(["token", "--sub", "x", "--scope", "y"], environ)
    assert (status, "no stand-in" in said) == (1, True)


def test_a_missing_package_is_named() -> None:
    """Without the demo extra, the message says how to get it."""
    script = (
        "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None\n"
        "from examples.review_service.__main__ import main; sys.exit(main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=clean(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "pip install '.[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_standin_runs_alone(tmp_path: Path) -> None:
    """As its own program, on any port, until it is told to stop."""
    with started(tmp_path, "examples.auth0_standin", "--port", "0") as (process, said):
        assert HTTP.request("GET", f"{said['provider']}.well-known/jwks.json").status == 200
        HTTP.clear()
        process.send_signal(signal.SIGINT)
        assert process.wait(10.0) == 0
