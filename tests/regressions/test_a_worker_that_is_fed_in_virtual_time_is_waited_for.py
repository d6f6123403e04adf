"""A thread that waited for work was taken to be away for good, and time jumped before it acted on what it was given."""

from __future__ import annotations

import queue
import sys
import threading

import pytest

from resilience.testing import virtual_time


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a thread waits")
def test_a_worker_acts_at_the_instant_at_which_it_is_fed() -> None:
    """A thread that takes jobs off a queue begins each at the moment at which it was put there."""
    jobs: queue.Queue[float | None] = queue.Queue()
    begun: list[float] = []
    with virtual_time() as clock:
        start = clock.now()

        def worker() -> None:
            while (nap := jobs.get()) is not None:
                begun.append(clock.now() - start)
                clock.sleep(nap)

        thread = threading.Thread(target=worker, daemon=True)
        thread.start()
        for _ in range(5):
            clock.sleep(1)
            jobs.put(0.25)
        clock.sleep(1)
        jobs.put(None)
        thread.join()
    assert begun == pytest.approx([1, 2, 3, 4, 5])
