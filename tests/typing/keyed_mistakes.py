"""Deliberate errors with `Keyed`: each line that ends in `# wrong` must be reported by every checker, and no other."""

from __future__ import annotations

from resilience import CircuitBreaker, Keyed, Retry


def breaker_for(host: str) -> CircuitBreaker:
    """One breaker for each host."""
    return CircuitBreaker(5, name=host)


hosts = Keyed(breaker_for, key="host")


@hosts
def fetch(host: str) -> int:
    """A function with a breaker for each host."""
    return len(host)


def number_for(host: str) -> int:
    """No policy."""
    return len(host)


fetch(1)  # wrong: the parameters are kept
text: str = fetch("a")  # wrong: the result is kept
hosts["a"].stats()  # wrong: a breaker has no such attribute
hosts[1.5]  # wrong: a key is a str, an int or a tuple of them
retries: Keyed[Retry] = hosts  # wrong: it holds breakers
Keyed(number_for)  # wrong: an int is no policy
Keyed(CircuitBreaker(5))  # wrong: a function that makes policies
Keyed(breaker_for, max_keys="9")  # wrong: a number
Keyed(breaker_for, "host")  # wrong: everything after the first is a keyword
