"""The decisions of `breaker.lua`, by the core itself."""

from __future__ import annotations

from resilience.core.breaker import REFUSED, Circuit
from resilience.core.state import CircuitState, Settled
from resilience.core.trip import Consecutive, FailureRate, SlowRate, Trip
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resilience.stores import Word

__all__ = ["Shared"]

_NUMBER = {state: float(number) for number, state in enumerate(CircuitState)}
_VERDICTS = (SUCCESS, FAILURE, IGNORED)


class _Circuit(Circuit):
    """A circuit that watches no call under way: in another process, one that hangs looks like one that has died."""

    __slots__ = ()

    def _count_anew(self) -> None:
        self.tallies = [trip.start() for trip in self.trips]
        self.watches = None


class Shared:
    """The circuit of one name. Not thread-safe by itself: a store holds its lock around each method."""

    __slots__ = ("_circuit",)

    def __init__(self) -> None:
        self._circuit: _Circuit | None = None

    def ask(self, verb: str, terms: Sequence[Word], given: Sequence[Word], now: float) -> list[Word]:
        """One decision; the verbs and their words are listed at the top of the script."""
        circuit = self._circuit
        if circuit is None:
            self._circuit = circuit = _circuit_of([float(word) for word in terms])
            circuit.serial = circuit.generation = int(now * 1e6)
        act = _VERBS.get(verb)
        if act is None:
            raise ValueError(f"unknown verb {verb!r}")
        circuit.look(now)
        answer = act(circuit, given, now)
        return [float(answer), *_view(circuit, refused=verb == "acquire" and answer == REFUSED)]


def _settle(circuit: Circuit, given: Sequence[Word], now: float) -> bool:
    permit, verdict, elapsed, hint = (float(word) for word in given)
    settled = circuit.settle(int(permit), _VERDICTS[int(verdict)], now, elapsed, hint)
    return settled is Settled.COUNTED


def _tell(circuit: Circuit, given: Sequence[Word], now: float) -> int:
    opening, before, seconds = (float(word) for word in given)
    circuit.cooldown.tell((int(opening), before), seconds)
    circuit.look(now)
    return 0


def _done(verb: Callable[[Circuit, float], object]) -> Callable[[Circuit, Sequence[Word], float], int]:
    def act(circuit: Circuit, _: Sequence[Word], now: float) -> int:
        verb(circuit, now)
        return 0

    return act


_VERBS: dict[str, Callable[[Circuit, Sequence[Word], float], int]] = {
    "acquire": lambda circuit, given, now: circuit.acquire(now, float(given[0])),
    "settle": _settle,
    "look": _done(Circuit.look),
    "open": _done(Circuit.open),
    "close": _done(Circuit.close),
    "reset": _done(Circuit.reset),
    "isolate": lambda circuit, given, now: circuit.isolate(str(given[0]), now),
    "release": lambda circuit, given, now: circuit.release(int(float(given[0])), now),
    "tell": _tell,
}


def _circuit_of(words: list[float]) -> _Circuit:
    cooldown, grows, trials, lease, ramp, count = words[:6]
    trips = tuple(_trip_of(words[6 + 5 * place : 11 + 5 * place]) for place in range(int(count)))
    return _Circuit(
        trips,
        cooldown,
        int(trials),
        None if lease < 0 else lease,
        grows=bool(grows),
        ramp=None if ramp < 0 else ramp,
    )


def _trip_of(words: list[float]) -> Trip:
    kind, limit, minimum, size, slower = words
    if kind == 1:
        return Consecutive(int(limit))
    calls = int(size) if kind == 2 else None
    window = size if kind == 3 else None
    if slower < 0:
        return FailureRate(limit, calls=calls, window=window, minimum_calls=int(minimum))
    return SlowRate(limit, slower_than=slower, calls=calls, window=window, minimum_calls=int(minimum))


def _view(circuit: Circuit, *, refused: bool) -> list[Word]:
    ramp = circuit.ramp
    wait = ramp.wait if refused and ramp is not None else circuit.retry_after()
    opening = circuit.unmeasured
    failures, calls = circuit.counts()
    changes = " ".join(f"{_NUMBER[old]:g} {_NUMBER[new]:g}" for old, new in circuit.changes)
    short, circuit.short_leases = circuit.short_leases, False
    circuit.changes.clear()
    return [
        _NUMBER[circuit.state],
        -1.0 if circuit.since is None else circuit.since,
        -1.0 if wait is None else wait,
        0.0 if opening is None else float(opening[0]),
        circuit.cooldown.rest,
        float(failures),
        float(calls),
        float(len(circuit.leases)),
        circuit.lease,
        float(short),
        circuit.latest,
        changes,
        circuit.reason(),
    ]
