"""A retry that is built or used wrongly says what to write; one that is built rightly can be looked at and copied."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from resilience import Retry, backoff
from tests.colours import Colour, every_colour

# parameter, value, error, rule
BAD: list[tuple[str, Any, type[Exception], str]] = [
    *[
        ("attempts", value, TypeError, "attempts must be an integer, 1 or more, or math.inf")
        for value in (True, "3", None, 2.5, 3.0, [3])
    ],
    *[
        ("attempts", value, ValueError, "attempts must be an integer, 1 or more, or math.inf")
        for value in (0, -1, -(10**30))
    ],
    ("attempts", math.nan, TypeError, "attempts must be an integer, 1 or more, or math.inf"),
    ("attempts", -math.inf, TypeError, "attempts must be an integer, 1 or more, or math.inf"),
    *[
        ("within", value, TypeError, "within must be a number of seconds above 0")
        for value in (True, False, "10", [1], Fraction(1))
    ],
    *[
        ("within", value, ValueError, "within must be a number of seconds above 0")
        for value in (0, 0.0, -1, -0.001, math.nan, math.inf, -math.inf, 10**400)
    ],
    *[
        ("max_retry_after", value, TypeError, "max_retry_after must be a number of seconds, 0 or more")
        for value in (True, None, "60", [60])
    ],
    *[
        ("max_retry_after", value, ValueError, "max_retry_after must be a number of seconds, 0 or more")
        for value in (-1, math.nan, math.inf)
    ],
    *[
        ("backoff", value, TypeError, "backoff must be a backoff, a number of seconds or a sequence of them")
        for value in (True, None, "1", {1}, object(), iter([1]))
    ],
    *[
        ("backoff", value, ValueError, "backoff must be a number of seconds, 0 or more")
        for value in (-1, math.nan, math.inf)
    ],
    ("backoff", [], ValueError, "backoff must be a backoff, a number of seconds or a sequence of them"),
    ("backoff", lambda: 1, TypeError, "backoff must be a backoff, to be called with (retry, previous, u)"),
    ("on_exhausted", "ignore", ValueError, 'on_exhausted must be "raise" or "return"'),
    ("on_exhausted", None, ValueError, 'on_exhausted must be "raise" or "return"'),
    ("on_exhausted", True, ValueError, 'on_exhausted must be "raise" or "return"'),
    *[("rng", value, TypeError, "rng must be a callable or None") for value in (0.5, "random", True)],
    *[("name", value, TypeError, "name must be a string that is not empty, or None") for value in (5, True, b"name")],
    ("name", "", ValueError, "name must be a string that is not empty, or None"),
]


@pytest.mark.parametrize(("parameter", "value", "error", "rule"), BAD, ids=lambda value: repr(value)[:40])
def test_a_bad_parameter_is_refused(parameter: str, value: Any, error: type[Exception], rule: str) -> None:
    """Every parameter is checked when the policy is built: the error names it, the rule and the value."""
    with pytest.raises(error) as caught:
        Retry(on=OSError, **{parameter: value})
    assert str(caught.value) == f"{rule}, got {value!r}"


@pytest.mark.parametrize("entries", [[1, -1], [1, "2"], [1, True], [1, math.nan]])
def test_a_bad_entry_of_a_schedule_is_named_by_its_place(entries: list[Any]) -> None:
    """The error for a sequence of delays says which entry is wrong."""
    with pytest.raises((TypeError, ValueError), match=r"backoff\[1\] must be a number of seconds, 0 or more, got"):
        Retry(on=OSError, backoff=entries)


def test_a_backoff_that_was_not_built_says_so() -> None:
    """A factory in place of what it builds is told the parentheses that are missing."""
    with pytest.raises(TypeError, match=r"write backoff\.exponential\(\.\.\.\)"):
        Retry(on=OSError, backoff=backoff.exponential)  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["now", "sleep", "sleep_async"])
def test_a_clock_has_three_methods(missing: str) -> None:
    """What is no clock is refused with the method that it lacks."""
    clock = type(
        "Broken", (), {name: lambda self: 0.0 for name in ("now", "sleep", "sleep_async") if name != missing}
    )()
    with pytest.raises(TypeError, match=f"clock must have .* has no {missing}"):
        Retry(on=OSError, clock=clock)


def test_a_retry_must_be_told_what_to_retry() -> None:
    """There is no default that retries everything."""
    with pytest.raises(
        TypeError, match="Retry must be told what to retry: pass on=SomeError, or on_result=a_predicate"
    ):
        Retry()


@pytest.mark.parametrize("arguments", [(OSError,), (3, OSError), (3,)], ids=repr)
def test_everything_is_a_keyword(arguments: tuple[Any, ...]) -> None:
    """Positional arguments are refused, in whatever order they were meant."""
    with pytest.raises(TypeError, match="Retry"):
        Retry(*arguments)


def test_an_unknown_parameter_is_refused() -> None:
    """A misspelt parameter is no silent default."""
    with pytest.raises(TypeError, match="max_attempts"):
        Retry(on=OSError, max_attempts=3)  # type: ignore[call-arg]


# --- wrong uses -------------------------------------------------------------------------------------------------------

RETRY = Retry(on=OSError)


def fetch(url: str = "/") -> str:
    """A plain function."""
    return url


async def fetch_async(url: str = "/") -> str:
    """A coroutine function."""
    return url


@pytest.mark.parametrize("fn", [fetch, fetch_async, RETRY(fetch)])
def test_a_bare_decorator_says_what_to_write(fn: Any) -> None:
    """`@Retry` without arguments is told the right form."""
    with pytest.raises(TypeError, match=r"Retry is built first and then decorates: write @Retry\(on=ConnectionError\)"):
        Retry(fn)


@pytest.mark.parametrize("verb", ["call", "call_async"])
def test_calling_with_the_result_says_what_to_write(verb: str) -> None:
    """`retry.call(fetch(url))` hands over a result or a coroutine, and is told to hand over the function."""
    for wrong, words in (
        (fetch("/"), "takes a function and its arguments"),
        (fetch_async("/"), "takes the function, not its coroutine"),
    ):
        with pytest.raises(TypeError, match=rf"{words}.*write policy\.{verb}\(fn, arguments\.\.\.\)"):
            outcome = getattr(RETRY, verb)(wrong)
            if verb == "call_async":
                outcome.send(None)


def test_a_retry_is_no_block() -> None:
    """`with retry:` is refused, and so is a guard, which says how to retry a block."""
    with pytest.raises(TypeError, match=r"write with policy\.guard\(\):"), RETRY:  # type: ignore[attr-defined]
        pass
    for arguments in ({}, {"key": 1}):
        with pytest.raises(TypeError, match=r"write `for attempt in retry\.attempts\(\):` and in it `with attempt:`"):
            RETRY.guard(**arguments)


def test_an_async_with_is_refused_too() -> None:
    """`async with retry:` is told the same."""
    with pytest.raises(TypeError, match=r"write async with policy\.guard\(\):"):
        RETRY.__aenter__().send(None)  # type: ignore[attr-defined]


def test_call_async_of_a_plain_result_says_so() -> None:
    """`call_async` of a function whose result cannot be awaited names the other verb."""
    with pytest.raises(TypeError, match=r"call_async awaits what fn returns, and .*fetch.* returned str: use call"):
        RETRY.call_async(fetch).send(None)  # type: ignore[arg-type]


# --- looking at it ----------------------------------------------------------------------------------------------------


@every_colour
async def test_call_takes_nothing_for_itself(colour: Colour) -> None:
    """`call` hands every keyword on, those included that are parameters of a policy."""

    def echo(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    async def echo_async(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    taken = await colour._call(RETRY, echo_async if colour.is_async else echo, 1, fn=2, self=3, name=4, attempts=5)
    assert taken == ((1,), {"fn": 2, "self": 3, "name": 4, "attempts": 5})


def test_replace_changes_what_is_named_and_nothing_else() -> None:
    """A changed copy has the other parameters as they were; the old one is not touched."""
    retry = Retry(on=OSError, attempts=5, within=timedelta(seconds=2), name="r")
    other = retry.replace(attempts=2)
    assert (other._plan.attempts, other._plan.within, other.name) == (2, 2.0, "r")
    assert retry._plan.attempts == 5
    with pytest.raises(TypeError, match="Retry has no parameter 'tries'; it has on, ignore, on_result, attempts"):
        retry.replace(tries=2)
    with pytest.raises(ValueError, match="attempts must be"):
        retry.replace(attempts=0)


def test_a_retry_shows_how_it_was_built() -> None:
    """The repr lists what was given."""
    assert repr(Retry(on=OSError, attempts=5, backoff=1, within=10)).startswith(
        "Retry(on=<class 'OSError'>, attempts=5, within=10, backoff=1,"
    )


def test_a_snapshot_is_plain() -> None:
    """A retry has no state; its snapshot says who it is, ready for JSON."""
    assert json.loads(json.dumps(Retry(on=OSError, name="r").snapshot())) == {"name": "r", "kind": "retry"}


def test_its_name() -> None:
    """The name given, else the decorated function's, else its kind."""
    retry = Retry(on=OSError)
    assert retry.name == "retry"
    retry(fetch)
    assert retry.name == "fetch"
    named = Retry(on=OSError, name="mine")
    named(fetch)
    assert named.name == "mine"
