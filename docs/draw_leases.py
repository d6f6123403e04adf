"""Draws the plots of "From one process to many": `python docs/draw_leases.py`, with the extra `plot` installed.

Clients of one limit, each with a policy of its own, offer nine tenths of what the limit allows, or twice as much. Time
is virtual and handed to the store with each question, so a plot is a function of its seeds. The pure cores answer; with
the address of a server as argument the real Lua does as well, and must grant the same to the call:

    python docs/draw_leases.py redis://127.0.0.1:6379
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from resilience import Throttle
from resilience.stores import MemoryStore, RedisStore, Store
from resilience.testing import VirtualClock

RATE, SECONDS = 1000.0, 5.0
LOADS = (900.0, 2000.0)
LEASES = (1, 2, 5, 10, 20, 50, 100, 200)
Case = tuple[float, int, int]
CLIENTS = {10: "#15803d", 100: "#2563eb", 1000: "#dc2626"}


class Timed:
    """A store that is asked as of the present virtual time, and counts."""

    def __init__(self, store: Store, clock: VirtualClock, case: str) -> None:
        self.store, self.clock, self.case = store, clock, case
        self.asked = 0

    def ask(
        self,
        kind: str,
        whose: tuple[str | int, ...],
        verb: str,
        terms: Sequence[str | float],
        given: Sequence[str | float],
        *,
        now: float | None = None,
    ) -> Sequence[str | float]:
        """Ask as of now, about a key of this case alone."""
        self.asked += 1
        moment = 1e9 + self.clock.now() if now is None else now
        return self.store.ask(kind, (*whose, self.case), verb, terms, given, now=moment)

    async def ask_async(
        self,
        kind: str,
        whose: tuple[str | int, ...],
        verb: str,
        terms: Sequence[str | float],
        given: Sequence[str | float],
        *,
        now: float | None = None,
    ) -> Sequence[str | float]:
        """Do what `ask` does."""
        return self.ask(kind, whose, verb, terms, given, now=now)


@dataclass(frozen=True)
class Outcome:
    """What came of one run: calls offered and granted, questions asked."""

    offered: int
    granted: int
    asked: int


def run(store: Store, load: float, clients: int, lease: int, seed: int = 1) -> Outcome:
    """So many clients for some seconds, each call at a random moment by a random one of them."""
    clock, rng = VirtualClock(), random.Random(seed)
    timed = Timed(store, clock, f"{load} {clients} {lease} {seed}")
    throttles = [Throttle(f"{RATE:g}/s", store=timed, name="api", lease=lease, clock=clock) for _ in range(clients)]
    offered = granted = 0
    while clock.now() < SECONDS:
        clock.advance(rng.expovariate(load))
        offered += 1
        granted += rng.choice(throttles).try_acquire()
    return Outcome(offered, granted, timed.asked)


def measured(store: Store) -> dict[Case, Outcome]:
    """All sizes of leases for all numbers of clients, at either load."""
    cases = [(load, clients, lease) for load in LOADS for clients in CLIENTS for lease in LEASES]
    return {case: run(store, *case) for case in cases}


def draw(outcomes: dict[Case, Outcome], path: Path) -> None:
    """What is granted of what could be, and what it costs in questions, over the size of the lease."""
    matplotlib: Any = import_module("matplotlib")
    figures: Any = import_module("matplotlib.figure")
    with matplotlib.rc_context({"svg.hashsalt": "resilience", "svg.fonttype": "none", "font.size": 9}):
        figure = figures.Figure(figsize=(7.2, 5.6), layout="constrained")
        for (granted, asked), load in zip(figure.subplots(2, 2, sharex=True), LOADS, strict=True):
            for clients, colour in CLIENTS.items():
                runs = [outcomes[load, clients, lease] for lease in LEASES]
                named: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 1.2}
                shares = [100 * run.granted / min(run.offered, RATE * (SECONDS + 1.0)) for run in runs]
                granted.plot(LEASES, shares, label=f"{clients:,} clients", **named)
                asked.plot(LEASES, [run.asked / run.offered for run in runs], **named)
            granted.set_ylabel(f"{load:,.0f} calls/s for {RATE:,.0f}/s\ngranted, % of what could be")
            asked.set_ylabel("questions per call")
            for axis in (granted, asked):
                axis.set_xscale("log")
                axis.set_xticks(LEASES, [str(lease) for lease in LEASES])
                axis.minorticks_off()
                axis.set_ylim(bottom=0)
                axis.grid(alpha=0.25)
                if load == LOADS[-1]:
                    axis.set_xlabel("lease, tokens")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def main(addresses: list[str]) -> None:
    """Draw, print the table, and hold the server against the cores where one is named."""
    outcomes = measured(MemoryStore())
    for address in addresses:
        store = RedisStore.from_url(address, timeout=5.0)
        if measured(store) != outcomes:
            sys.exit("the server decides otherwise than the cores")
        store.close()
    draw(outcomes, Path(__file__).parent / "_static" / "leases.svg")
    sys.stdout.write(
        "| calls/s | clients | lease | offered | granted | questions per call |\n|---|---|---|---|---|---|\n"
    )
    for (load, clients, lease), outcome in outcomes.items():
        row = [f"{load:,.0f}", f"{clients:,}", str(lease), f"{outcome.offered:,}", f"{outcome.granted:,}"]
        sys.stdout.write(f"| {' | '.join(row)} | {outcome.asked / outcome.offered:.2f} |\n")


if __name__ == "__main__":
    main(sys.argv[1:])
