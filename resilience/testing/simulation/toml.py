"""Scenarios in TOML.

    title = "Retry storm"
    seconds = 150

    [clients]
    number = 200
    think = 2.5

    [server]
    workers = 10
    service = 0.1

    [[incidents]]
    kind = "surge"
    at = 30
    lasts = 10
    rate = 200

    [pipelines]
    naive = ["Retry(on=OSError, attempts=5, backoff=0.1)", "Timeout(1)"]

The keys are the attributes of `Scenario`, `Clients`, `Server` and `Incident`, with the same defaults and rules. A
misspelt key is an error, since one that is silently left out would be an answer to another question.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

from resilience._checks import wrong_type
from resilience.testing.simulation.scenario import Clients, Incident, Scenario, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard

__all__ = ["read_scenario", "ready", "scenario_from"]

_READY = Path(__file__).parent.parent / "scenarios"


def ready() -> list[str]:
    """The names of the scenarios that come with the library."""
    return sorted(path.stem for path in _READY.glob("*.toml"))


def read_scenario(source: str | Path) -> Scenario:
    """Read a scenario from a file, or one of the ready ones by its name.

    Raises:
        FileNotFoundError: there is neither such a file nor such a name.
        TypeError, ValueError: the file is not a scenario; the message names the file, the key, the rule and the value.
    """
    path = Path(source)
    if isinstance(source, str) and source in ready():
        path = _READY / f"{source}.toml"
    elif not path.is_file():
        raise FileNotFoundError(f"no scenario {str(source)!r}: name a file, or one of {', '.join(ready())}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a scenario is UTF-8 text: {error}") from None
    try:
        return scenario_from(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except TypeError as error:
        raise TypeError(f"{path}: {error}") from None


def scenario_from(text: str) -> Scenario:
    """Read a scenario from text.

    Raises:
        TypeError, ValueError: it is not a scenario; the message names the key, the rule and the value.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"a scenario is TOML: {error}") from None
    known = _known(Scenario, table, "")
    if "clients" in known:
        known["clients"] = Clients(**_known(Clients, known["clients"], "clients"))
    if "server" in known:
        known["server"] = Server(**_known(Server, known["server"], "server"))
    if "incidents" in known:
        known["incidents"] = _incidents(known["incidents"])
    return Scenario(**known)


def _incidents(value: object) -> tuple[Incident, ...]:
    if not _is_list(value):
        raise wrong_type("incidents", "a list of tables, written [[incidents]]", value)
    incidents: list[Incident] = []
    for index, entry in enumerate(value):
        place = f"incidents[{index}]"
        table = _known(Incident, entry, place)
        for key in ("kind", "at", "lasts"):
            if key not in table:
                raise ValueError(f"{place}.{key} must be given, got {table!r}")
        try:
            incidents.append(Incident(**table))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(str(error).replace("incidents.", f"{place}.", 1)) from None
    return tuple(incidents)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _known(kind: type[Any], table: Any, place: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise wrong_type(place, "a table", table)
    names = [each.name for each in fields(kind)]
    entries: dict[str, Any] = {**table}
    for key in entries:
        if key not in names:
            spot = f"{place}.{key}" if place else key
            raise ValueError(f"{spot} must be one of {', '.join(names)}, got {key!r}")
    return entries
