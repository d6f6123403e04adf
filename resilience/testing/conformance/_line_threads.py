"""Waiters that are threads, in a virtual time that is theirs alone.

See `_line.py` for what a stage is. Whoever comes is waited for until it rests, and so is whoever is let go: two threads
that run at once would come in in an order that nobody can hold a policy to.
"""

from __future__ import annotations

import threading
import time

from resilience.testing._running import would_run
from resilience.testing._whereabouts import frames_of_threads, spot
from resilience.testing.conformance._subject import PATIENCE
from resilience.testing.virtual import VirtualTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["ThreadStage"]

LOOKS = 10
"""So often a thread is seen on one spot, and it is taken to wait there."""

GLANCE = 0.0005
FAR = 1e9
"""Seconds after which nobody waits any more."""


class ThreadStage:
    """Threads, and a virtual time that they come to rest in."""

    is_async = in_order = False

    def __init__(self) -> None:
        self.clock = VirtualTime(0.0)
        self._everybody: list[_Thread] = []
        self._gates: list[_Gate] = []

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Play a script to its end."""
        script = main()
        try:
            script.send(None)
        except StopIteration:
            pass
        finally:
            script.close()
            self._let_go()

    def _let_go(self) -> None:
        over = time.monotonic() + PATIENCE
        while any(not waiter.done for waiter in self._everybody) and time.monotonic() < over:
            for gate in self._gates:
                gate.open("over")
            self.clock.advance(FAR)
            time.sleep(0)
        self.clock._timeline.close()

    def come(self, name: str, ask: Callable[[], Any]) -> _Thread:
        """A thread that asks; it has asked when this returns."""
        waiter = _Thread(name, ask)
        self._everybody.append(waiter)
        waiter.thread.start()
        self._until_all_rest()
        return waiter

    def gate(self) -> _Gate:
        """Where a call waits; called on its own thread."""
        gate = _Gate(self._until_all_rest)
        self._gates.append(gate)
        return gate

    async def settle(self) -> None:
        """Let everybody do what they can do without time passing."""
        self._until_all_rest()

    async def arrive(self) -> None:
        """Who has come has asked."""

    async def tick(self) -> None:
        """Threads have no turns."""

    async def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.sleep(seconds)
        self._until_all_rest()

    def _until_all_rest(self) -> None:
        timeline = self.clock._timeline
        over = time.monotonic() + PATIENCE
        seen: dict[threading.Thread, tuple[object, int]] = {}
        while True:
            at_gates = {gate.thread for gate in self._gates if not gate.opened}
            known = at_gates | timeline._still | timeline._waiting
            acting = [each.thread for each in self._everybody if not each.done and each.thread not in known]
            if not acting:
                return
            frames = frames_of_threads()
            for thread in acting:
                where, often = spot(frames.get(thread.ident or 0)), 0
                if thread in seen and seen[thread][0] == where and not would_run(thread):
                    often = seen[thread][1] + 1
                seen[thread] = where, often
            del frames  # this frame is one of them
            if all(seen[thread][1] >= LOOKS for thread in acting):
                return
            if time.monotonic() > over:
                raise RuntimeError(f"a call has neither begun nor ended within {PATIENCE} s of real time")
            time.sleep(GLANCE if all(seen[thread][1] for thread in acting) else 0)


class _Thread:
    def __init__(self, name: str, ask: Callable[[], Any]) -> None:
        self.name = name
        self.done = False
        self.refused: BaseException | None = None
        self._ask = ask
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            self._ask()
        except GeneratorExit:
            pass
        except BaseException as error:
            self.refused = error.with_traceback(None)
        finally:
            self.done = True

    def cancel(self) -> None:
        """A thread cannot be cancelled."""


class _Gate:
    def __init__(self, until_all_rest: Callable[[], None]) -> None:
        self.thread = threading.current_thread()
        self.opened = False
        self._until_all_rest = until_all_rest
        self._lock = threading.Semaphore(0)
        self._outcome: object = None

    def wait(self) -> object:
        """Wait for the end, on the thread that made the gate."""
        self._lock.acquire()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def open(self, outcome: object) -> None:
        """Let it go, without waiting for what it does then."""
        if not self.opened:
            self._outcome = outcome
            self.opened = True
            self._lock.release()

    def end(self, outcome: object) -> None:
        """Let it go, and wait until it and those who come in after it rest."""
        self.open(outcome)
        self._until_all_rest()
