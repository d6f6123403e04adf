"""A throttle whose key is a parameter's name could not be decorated with where another policy stood inside it."""

from __future__ import annotations

import pytest

from resilience import CircuitBreaker, Pipeline, Retry, Throttle, Throttled


def test_a_key_by_name_is_found_through_the_policies_inside() -> None:
    """Each user has a bucket, wherever in the pipeline the throttle stands."""
    for inside in ((), (CircuitBreaker(),), (Retry(on=OSError), CircuitBreaker())):

        @Pipeline(Throttle("1/hour", key="user"), *inside)
        def report(user: str, day: int = 0) -> str:
            return user

        assert report("alice") == "alice"
        assert report(day=1, user="bob") == "bob"
        with pytest.raises(Throttled):
            report("alice", 2)


def test_a_name_that_the_function_does_not_have_is_an_error_when_decorating() -> None:
    """The error names the parameter and those there are."""
    with pytest.raises(TypeError, match=r"'user'.*day"):

        @Pipeline(Throttle("1/hour", key="user"), CircuitBreaker())
        def report(day: int) -> None: ...
