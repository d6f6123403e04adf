"""Nothing of a token, a data source or a statement ends up in a log or in an answer."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.review_service import journal
from examples.review_service.auth.verifier import Caller
from examples.review_service.settings import AUDIENCE, Settings
from tests.examples.conftest import Provider, Service
from tests.examples.forge import Forge
from tests.examples.test_database_faults import FAULTS, REQUESTS
from tests.examples.test_forged_tokens import FORMS

_STATEMENT = re.compile(r"SELECT|INSERT|DELETE FROM|BEGIN|PRAGMA|WHERE|sqlite|users\.", re.IGNORECASE)


def _all_that_was_said(caplog: pytest.LogCaptureFixture) -> str:
    lines = [journal._Lines().format(record) for record in caplog.records]
    traces = [str(record.exc_info) for record in caplog.records if record.exc_info]
    return "\n".join(lines + traces)


def _pieces(token: str) -> list[str]:
    """The parts of a token, long enough to be recognised."""
    return [part[:24] for part in re.split(r"[^A-Za-z0-9_-]", token) if len(part) >= 24]


def test_no_token_is_ever_repeated(service: Service, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """Good and forged tokens, in the header, in the path, in the query, in a body: none is written anywhere."""
    caplog.set_level(logging.DEBUG)
    forge = Forge(provider, AUDIENCE)
    tokens = [provider.token(), *(form(forge) for form in FORMS.values())]
    said: list[bytes] = []
    for token in tokens:
        usable = token if token.isascii() else "x"
        for answer in (
            service.get("/review/1", token=token),
            service.get(f"/review/{usable[:2000]}", token=token),
            service.get(f"/reviews?access_token={usable[:2000]}&cursor={usable[:2000]}", token=tokens[0]),
            service.call("POST", "/review", token=tokens[0], json={"title": token, "body": token, "rating": 9}),
            service.call(usable[:30] or "X", "/review", headers={"Idempotency-Key": token}),
        ):
            said.append(answer.data + str(answer.headers).encode())
    everything = _all_that_was_said(caplog) + b"".join(said).decode("utf-8", "replace")
    assert '"event": "request"' in everything
    for token in tokens:
        for piece in _pieces(token):
            assert piece not in everything


def test_no_statement_and_no_data_source_is_ever_repeated(
    make: Callable[..., Service],
    provider: Provider,
    database: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through every fault of the database, what is said is what kind of fault it is."""
    monkeypatch.setattr("examples.review_service.models.database.PATIENCE", 0.01)
    caplog.set_level(logging.DEBUG)
    service = make(database_url=f"sqlite:///{database}")
    token = provider.token()
    said = []
    for fault in FAULTS.values():
        service.get("/review/2", token=token)
        with fault(database):
            for method, path, more in REQUESTS:
                answer = service.call(method, path, token=token, **more)
                said.append(answer.data + str(answer.headers).encode())
        service.clock.advance(1.0)
    everything = _all_that_was_said(caplog) + b"".join(said).decode()
    assert str(database) not in everything
    assert not _STATEMENT.search(everything.replace('"method": "DELETE"', ""))


def test_what_nobody_foresaw_is_logged_by_type_and_place(
    service: Service, provider: Provider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough to find it, and nothing of its message."""

    def fail(*_: object) -> object:
        raise RuntimeError("postgresql://alice:hunter2@host/db SELECT")

    monkeypatch.setattr(service.app.extensions["verifier"], "caller", fail)
    with caplog.at_level(logging.DEBUG):
        answer = service.get("/review/1", token=provider.token())
    entry = next(vars(record)["fields"] for record in caplog.records if record.getMessage() == "unexpected")
    assert entry["error"] == "RuntimeError"
    assert any(place.startswith("fail:") for place in entry["where"])
    assert "hunter2" not in _all_that_was_said(caplog) + answer.text


def test_what_holds_a_secret_does_not_show_it() -> None:
    """The settings' data source and a caller's token are in no repr."""
    settings = Settings(database_url="postgresql://alice:hunter2@host/db")
    assert "hunter2" not in repr(settings)
    caller = Caller("auth0|alice", frozenset({"read:reviews"}), "eyJ.secret.token")
    assert "secret" not in repr(caller)
    assert "auth0|alice" in repr(caller)


def test_a_line_of_the_log_is_one_json_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever logs, in this process, writes the same kind of line."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level, stop = root.level, journal.to_stderr()
    try:
        journal.note("started", port=1)
        logging.getLogger("somebody.else").warning("a line\nwith a break")
    finally:
        stop()
        root.setLevel(level)
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["port"], first["level"]) == ("started", 1, "info")
    assert (second["event"], second["message"]) == ("somebody.else", "a line\nwith a break")
