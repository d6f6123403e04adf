"""The short way through a throttle.

One rate, no keys, nobody in line, and every call costs the same: that is most throttles most of the time. Then the
whole decision is the rule of `resilience.core.bucket` in a few lines of arithmetic on one number, and asking the desk
would cost ten times as much. The short way only ever grants. Whatever it is not sure of, such as a sum that does not
come out exactly, it leaves to the desk.

Where the interpreter has a global lock, a thread can lose it only at a call or a backward jump. From the test of
`at_hand` to the write there is neither, so that stretch is one step, and needs no lock. The desk takes the number
away (`at_hand` is False) before it reads it and puts it back when it is done, so the two never write across each
other. Other interpreters take the form with the lock.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Protocol

    from resilience.clock import Clock
    from resilience.core.ledger import Ledger

    class Short(Protocol):
        """A throttle that has a short way."""

        _burst: float
        _clock: Clock
        _ledger: Ledger
        _lock: threading.Lock
        _times: float
        _unit: float


__all__ = ["take_locked", "take_quickly", "take_unlocked"]


def take_unlocked(throttle: Short) -> bool:
    """Grant a call of the usual cost, if that is simple."""
    line = throttle._clock.now() * throttle._times
    burst = throttle._burst
    floor = line - burst
    ledger = throttle._ledger
    unit = throttle._unit
    if ledger.at_hand:
        state: float = ledger.sole
        if state < floor:
            if floor + burst != line:
                return False
            state = floor
        taken = state + unit
        if taken <= line and taken - state == unit:
            ledger.sole = taken
            return True
    return False


def take_locked(throttle: Short) -> bool:
    """Grant a call of the usual cost, if that is simple; for interpreters whose threads run at once."""
    line = throttle._clock.now() * throttle._times
    burst = throttle._burst
    floor = line - burst
    ledger = throttle._ledger
    unit = throttle._unit
    with throttle._lock:
        if ledger.at_hand:
            state: float = ledger.sole
            if state < floor:
                if floor + burst != line:
                    return False
                state = floor
            taken = state + unit
            if taken <= line and taken - state == unit:
                ledger.sole = taken
                return True
    return False


_ONE_AT_A_TIME = getattr(sys, "_is_gil_enabled", lambda: True)()

take_quickly = take_unlocked if _ONE_AT_A_TIME else take_locked
