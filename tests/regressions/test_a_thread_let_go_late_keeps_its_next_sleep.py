"""In virtual time a thread that was let in could have its next sleep cut short by the one who had let it in.

The bell rang first, and virtual time was told after it. In between the other thread could go on and sleep elsewhere.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resilience import Bulkhead
from resilience.policies import _waiting
from resilience.testing import virtual_time


def test_who_is_let_in_sleeps_as_long_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late the one who lets in goes on, the one who is let in sleeps its whole second."""
    go_on = threading.Event()
    ring = _waiting._Bed.ring

    def ring_and_dawdle(bed: Any) -> None:
        ring(bed)
        go_on.wait(0.01)

    monkeypatch.setattr(_waiting._Bed, "ring", ring_and_dawdle)
    spans: list[float] = []
    with virtual_time() as clock:
        bulkhead = Bulkhead(1, queue=1, max_wait=10, name="let go late")

        def call() -> None:
            with bulkhead.guard():
                before = clock.now()
                clock.sleep(1.0)
                spans.append(round(clock.now() - before, 6))

        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert spans == [1.0, 1.0]
