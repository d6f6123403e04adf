"""A pipeline for each host: one is down, and the others do not notice.

A crawler fetches from four hosts with one function. For a minute one of them refuses every connection. With one
pipeline for all, its failures open the one circuit there is, and most calls to the healthy hosts are refused as well.
With `Keyed` each host has a pipeline of its own: the calls to the one that is down are refused, and no others.

    python -m examples.per_host_pipeline

The minutes pass in virtual time, so the program ends at once and prints the same numbers every time.
"""

from __future__ import annotations

from collections import Counter
from typing import Never

from resilience import CircuitBreaker, Keyed, Pipeline, Rejected, Retry
from resilience.testing import VirtualClock

HOSTS = ["alpha.example", "bravo.example", "charlie.example", "delta.example"]
DOWN = "bravo.example"
OUTAGE = range(30, 90)
HALFWAY = 60
SECONDS = 120


class Network:
    """Four hosts, one of which refuses connections for a while. Counts the connections that each is asked for."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked: Counter[str] = Counter()

    def fetch(self, host: str, path: str = "/") -> str:
        """A page, or no connection."""
        self.asked[host] += 1
        if host == DOWN and int(self.clock.now()) in OUTAGE:
            raise ConnectionError(f"{host} refuses the connection")
        return f"{host}{path}"


def pipeline(name: str, clock: VirtualClock) -> Pipeline[Never]:
    """What stands before a host: a second attempt, and a circuit that opens after five failures in a row."""
    return Pipeline(
        Retry(on=ConnectionError, attempts=2, backoff=0, clock=clock),
        CircuitBreaker(5, on=ConnectionError, cooldown=10, clock=clock),
        name=name,
    )


def run(*, keyed: bool) -> tuple[Counter[str], Counter[str], list[str]]:
    """Two minutes of fetching: answers by host, connections by host, and the circuits that were open in the middle."""
    clock = VirtualClock()
    network = Network(clock)
    hosts = Keyed(lambda host: pipeline(f"{host}", clock), key="host", clock=clock)
    fetch = hosts(network.fetch) if keyed else pipeline("all", clock)(network.fetch)

    answered: Counter[str] = Counter()
    open_then: list[str] = []
    # Most of what is fetched is on the host that will fail, and each of the others is visited once a second.
    visits = [DOWN] * 7 + [host for host in HOSTS if host != DOWN]
    for second in range(SECONDS):
        for host in visits:
            try:
                fetch(host)
            except (ConnectionError, Rejected):
                continue
            answered[host] += 1
        if second == HALFWAY:
            open_then = sorted(
                part.name
                for _, each in hosts.items()
                for part in each.policies
                if isinstance(part, CircuitBreaker) and part.state == "open"
            )
        clock.advance(1)
    return answered, network.asked, open_then


def main() -> None:
    """Print what each host answered, with one pipeline for all and with one for each."""
    together, together_asked, _ = run(keyed=False)
    apart, apart_asked, open_then = run(keyed=True)
    print(f"{SECONDS} s; {DOWN} is down from {OUTAGE.start} to {OUTAGE.stop} s\n")
    print("                    one pipeline for all     one for each host")
    print("host                answers  connections     answers  connections")
    for host in HOSTS:
        print(f"{host:18}{together[host]:9}{together_asked[host]:13}{apart[host]:12}{apart_asked[host]:13}")
    healthy = [host for host in HOSTS if host != DOWN]
    lost, kept = (sum(SECONDS - answered[host] for host in healthy) for answered in (together, apart))
    print(f"\nopen after {HALFWAY} s, with one for each: {', '.join(open_then)}")
    print(f"answers that the healthy hosts lost: {lost} with one pipeline for all, {kept} with one for each")


if __name__ == "__main__":
    main()
