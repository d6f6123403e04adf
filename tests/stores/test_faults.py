"""What may befall a server, on a real one and under load: every call is bounded, nothing of the driver leaks, no more
is admitted than `on_store_error` says, and it is noticed when the server is back.

`-s` prints the table. A machine that does other things as well makes calls late that no store is to blame for, so what
is asked is the store's timeout, ten milliseconds of ours, and the most that a thread was late which only slept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from resilience.events import StoreLost, StoreRecovered
from tests.stores.faults import FAULTS, MORE, Fault
from tests.stores.load import BURST, RATE, Load
from tests.stores.servers import binary, debians
from tests.stores.stage import Stage

TIMEOUT = 0.05
OWN = 0.010  # of ours, on top
SLACK = 0.100  # of a machine on which four threads and a loop want two cores
LASTS = 0.15

Table = list[str]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """The lines that the tests add, printed at the end."""
    head = f"{'fault':<22} {'calls':>6} {'worst ms':>8} {'stall ms':>8} {'refusing':>12} {'local':>12} {'noticed':>8}"
    lines: Table = []
    yield lines
    print("\n" + "\n".join([head, *lines]))


def _befalls(fault: Fault, server: str, table: Table) -> None:
    with Stage(server, TIMEOUT, *fault.options) as stage:
        store = fault.way(stage)
        undo = fault.do(stage) if fault.early else None
        noticed = 0.0
        with Load(store) as load:
            if undo is None:
                time.sleep(0.05)
                undo = fault.do(stage)
            if fault.outage:
                load.until(StoreLost, 2.0)
            time.sleep(LASTS)
            undo()
            if fault.outage:
                noticed = load.until(StoreRecovered, 1.0 + SLACK)
            time.sleep(0.05)
    allowed = RATE * load.lasted + BURST * (1 + fault.emptied)
    table.append(
        f"{fault!s:<22} {load.calls:>6} {load.slowest * 1000:>8.1f} {load.stalled * 1000:>8.1f}"
        f" {load.granted['strict']:>7}/{allowed:<4.0f} {load.granted['api']:>7}/{allowed + 2 * BURST:<4.0f}"
        + (f" {noticed * 1000:>8.0f}" if fault.outage else "        -")
    )
    assert not load.errors
    assert load.told() == dict.fromkeys(load.granted, ["StoreLost", "StoreRecovered"] if fault.outage else [])
    assert load.slowest <= TIMEOUT + OWN + SLACK + 2 * load.stalled
    assert load.granted["strict"] <= allowed
    # The local bucket, once; and what the shared one has gained while the local one was asked.
    assert load.granted["api"] <= allowed + (2 * BURST if fault.outage else 0)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_bounded_and_over_when_it_is_over(fault: Fault, table: Table) -> None:
    """Under load each call returns in time, one outage is told to each policy, and its end within a second."""
    _befalls(fault, binary(), table)


@pytest.mark.proof
@pytest.mark.parametrize("fault", MORE, ids=str)
def test_what_looks_the_same_is_treated_the_same(fault: Fault, table: Table) -> None:
    """So it is with what befalls servers less often."""
    _befalls(fault, binary(), table)


@pytest.mark.proof
@pytest.mark.skipif(debians() is None, reason="there is no redis-server here")
@pytest.mark.parametrize("fault", FAULTS + MORE, ids=str)
def test_it_is_so_on_redis_too(fault: Fault, table: Table) -> None:
    """Debian's redis-server fails in the same ways, and costs the same."""
    _befalls(fault, debians() or "", table)
