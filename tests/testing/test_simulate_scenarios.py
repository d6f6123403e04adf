"""Scenarios as text: what is wrong with one is said with its key, its rule and its value, before anything is run."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from resilience import FailureRate, Retry, Timeout, backoff
from resilience.testing.simulation import Clients, Incident, Scenario, Server, read_scenario, ready, scenario_from
from resilience.testing.simulation.expressions import BACKOFFS, POLICIES, evaluate

GOOD = """
title = "Example"
seconds = 60
[clients]
number = 20
[server]
workers = 2
[[incidents]]
kind = "slow"
at = 10
lasts = 5
factor = 3.0
[pipelines]
naive = ["Retry(on=OSError, attempts=5)", "Timeout(1)"]
bare = []
"""


def test_a_scenario_is_read() -> None:
    """What stands in TOML is what a scenario holds; what is left out has its default."""
    assert scenario_from(GOOD) == Scenario(
        title="Example",
        seconds=60,
        clients=Clients(number=20),
        server=Server(workers=2),
        incidents=(Incident(kind="slow", at=10, lasts=5, factor=3.0),),
        pipelines={"naive": ["Retry(on=OSError, attempts=5)", "Timeout(1)"], "bare": []},
    )


def test_there_are_three_ready_scenarios() -> None:
    """The ready scenarios are read by name, and each has a naive and a taught pipeline."""
    assert ready() == ["half-the-fleet-lost", "retry-storm", "slow-dependency"]
    for name in ready():
        scenario = read_scenario(name)
        assert {"naive", "taught"} <= scenario.pipelines.keys()
        assert scenario.incidents


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seconds = 60", "seconds = -1", r"seconds must be a number of seconds above 0, got -1"),
        ("seconds = 60", "second = 60", r"second must be one of title, seconds, .*, got 'second'"),
        ("seconds = 60", "seconds = 5", r"incidents.at must be before the end, 5 s, got 10"),
        ('title = "Example"', "title = 3", r"title must be a string that is not empty, got 3"),
        ("number = 20", "number = 2.5", r"clients.number must be an integer, 1 or more, got 2.5"),
        ("number = 20", "think = 0", r"clients.think must be a number of seconds above 0, got 0"),
        ("number = 20", 'loop = "ring"', r'clients.loop must be "closed" or "open", got \'ring\''),
        ("number = 20", 'loop = "open"', r"clients.rate must be a number above 0, got None"),
        ("number = 20", "rate = 5", r"clients.rate must be left out where clients.loop is closed, got 5"),
        ("number = 20", "number = 2\ninstances = 3", r"clients.instances must be at most clients.number, 2, got 3"),
        ("workers = 2", "workers = true", r"server.workers must be an integer, 1 or more, got True"),
        ("workers = 2", "queue = -1", r"server.queue must be an integer, 0 or more, got -1"),
        ("workers = 2", 'distribution = "flat"', r"server.distribution must be .*, got 'flat'"),
        ("workers = 2", "notices = 1", r"server.notices must be true or false, got 1"),
        ("workers = 2", "cores = 2", r"server.cores must be one of workers, .*, got 'cores'"),
        ('kind = "slow"', 'kind = "fast"', r'incidents\[0\].kind must be "surge" or .*, got \'fast\''),
        ("factor = 3.0", "factor = nan", r"incidents\[0\].factor must be a number above 0, got nan"),
        ("factor = 3.0", "share = 0.5", r"incidents\[0\].factor must be a number above 0, got None"),
        ("lasts = 5\n", "", r"incidents\[0\].lasts must be given"),
        ("[[incidents]]", "[incidents]", r"incidents must be a list of tables, written \[\[incidents\]\]"),
        ("bare = []", "bare = 3", r"pipelines.bare must be a list of expressions, or a function .*, got 3"),
        ("attempts=5", "attempts=0", r"pipelines.naive\[0\], .*: attempts must be an integer, 1 or more.*, got 0"),
        ("Timeout(1)", "Timeout(1", r"pipelines.naive\[1\] must be an expression, got 'Timeout\(1'"),
        ("Timeout(1)", "Tempo(1)", r"pipelines.naive\[1\] must name one of .*, got 'Tempo'"),
        ("Timeout(1)", "OSError", r"pipelines.naive\[1\] must be a policy, .*, got <class 'OSError'>"),
        ("[pipelines]", "[pipelines", r"a scenario is TOML"),
    ],
)
def test_an_error_names_key_rule_and_value(before: str, after: str, message: str) -> None:
    """Each rule of a scenario that is broken is told with its key, what it must be and what it is."""
    assert before in GOOD
    with pytest.raises((TypeError, ValueError), match=message):
        scenario_from(GOOD.replace(before, after))


def test_a_table_that_is_none_is_named() -> None:
    """A value where a table belongs is an error with its key."""
    with pytest.raises(TypeError, match="clients must be a table, got 3"):
        scenario_from("clients = 3")


def test_a_file_is_named(tmp_path: Path) -> None:
    """What is wrong with a file is told with its path; a path that is not there, with the ready scenarios."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("seconds = 60", "seconds = 0"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.toml: seconds must be"):
        read_scenario(path)
    path.write_text(GOOD.replace("number = 20", 'number = "20"'), encoding="utf-8")
    with pytest.raises(TypeError, match=r"mine\.toml: clients\.number must be"):
        read_scenario(path)
    path.write_bytes(b"title = '\xff'")
    with pytest.raises(ValueError, match="UTF-8"):
        read_scenario(path)
    with pytest.raises(FileNotFoundError, match="retry-storm"):
        read_scenario("retry-strom")


def test_an_expression_is_what_it_would_be_in_code() -> None:
    """Policies, backoffs and literals come out as Python would have made them."""
    assert evaluate("exponential(base=0.1, cap=5)", BACKOFFS, "x") == backoff.exponential(base=0.1, cap=5)
    assert evaluate("backoff.schedule([0.1, 2], jitter=0.2)", BACKOFFS, "x") == backoff.schedule([0.1, 2], jitter=0.2)
    assert evaluate("(-1, 'a', {'b': None}, math.inf)", BACKOFFS, "x") == (-1, "a", {"b": None}, inf)
    assert isinstance(evaluate("Retry(on=(OSError, TimedOut), backoff=fibonacci())", POLICIES, "x"), Retry)
    assert isinstance(evaluate("FailureRate(0.5, window=10)", POLICIES, "x"), FailureRate)
    assert isinstance(evaluate("  Timeout(2)  ", POLICIES, "x"), Timeout)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "().__class__",
        "Retry.__init__",
        "Retry(on=OSError).bind(1)",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "2 ** 9 ** 9",
        "f'{1}'",
        "Timeout(*[1])",
        "Timeout(**{'seconds': 1})",
        "{**{}}",
        "{1: 2}",
        "(x := 1)",
        "b'bytes'",
        "...",
        "1; 2",
        "",
        "inf(1)",
        "(" * 300 + ")" * 300,
        "-" * 9_000 + "1",
        "1" * 10_001,
    ],
)
def test_an_expression_can_do_nothing_else(text: str) -> None:
    """Whatever is not a call of a known name or a literal is refused by an error that names the place."""
    with pytest.raises((TypeError, ValueError), match=r"^here"):
        evaluate(text, POLICIES, "here")


def test_an_expression_is_text() -> None:
    """A number where an expression belongs is an error that says so."""
    with pytest.raises(TypeError, match="here must be an expression, as text, got 3"):
        evaluate(3, POLICIES, "here")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Scenario(pipelines={}), "pipelines must be a table of at least one pipeline"),
        (lambda: Scenario(clients=None), "clients must be a Clients, got None"),
        (lambda: Scenario(incidents=(3,)), "incidents must be a tuple or list of Incident, got 3"),
        (lambda: Scenario(pipelines={"a": lambda: 3}), "pipelines.a must be a policy"),
        (lambda: Incident(kind="lost", at=0, lasts=1, share=1.0), "incidents.share must be below 1"),
        (lambda: Incident(kind="down", at=0, lasts=1, rate=1.0), "incidents.rate must be left out"),
    ],
)
def test_a_scenario_in_code_is_checked_as_well(made: Callable[[], object], message: str) -> None:
    """A scenario that is built in Python obeys the same rules."""
    with pytest.raises((TypeError, ValueError), match=message):
        made()
