"""How long to wait before trying again.

A backoff is a value: three numbers go in, one comes out, nothing is remembered.

    b(retry, previous, u) -> seconds

`retry` counts from 1, `previous` is the delay computed last time (0.0 at first), `u` in [0, 1) is the chance of this
one call. Because nothing is remembered, one backoff serves any number of calls at once, can be a default argument, a
dictionary key or part of a snapshot, and is checked against a table.

A delay is made in two steps, in this order: the curve, which the cap bounds, then the jitter. Jitter first and cap
second would pile every late retry up on the cap, in lockstep: the very thing that jitter is there to prevent.

    curve                                                        jitter
    exponential  d = min(cap, base * factor**(retry - 1))        none      d
    linear       d = min(cap, step * retry)                      full      u * d
    fibonacci    d = min(cap, base * F(retry)), F = 1 1 2 3 5    equal     d/2 + u * d/2
    constant     d = delay                                       f         d * (1 - f + 2*f*u)
    schedule     d = delays[retry - 1]; the last one repeats

    decorrelated     min(cap, base + u * (max(previous, base)*3 - base)), where curve and jitter are one

Full, equal and decorrelated jitter are those of Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
2015. Nothing overflows, however large `retry` is. The classes trust their arguments; the factories in
`resilience.backoff` check them.
"""

from __future__ import annotations

from math import exp, log, sqrt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NoReturn, Protocol, TypeAlias

    Jitter: TypeAlias = Literal["none", "full", "equal"] | float
else:
    Protocol = object

__all__ = [
    "Backoff",
    "Constant",
    "Curve",
    "Decorrelated",
    "Exponential",
    "Fibonacci",
    "Linear",
    "Schedule",
]

_LARGEST = 1.7976931348623157e308
_GOLDEN = (1 + sqrt(5)) / 2
_SQRT_5 = log(sqrt(5), _GOLDEN)  # the power of the golden ratio that sqrt(5) is
_LARGEST_FIBONACCI = 1476  # F(1477) does not fit in a float


class Backoff(Protocol):
    """Anything that maps a retry to a delay: one of the classes below, or a pure function of your own."""

    def __call__(self, retry: int, previous: float, u: float, /) -> float:
        """The delay before retry number `retry`, in seconds."""
        ...


class _Value:
    """What a frozen dataclass gives, without importing one: equality, hash, repr and pickling by field."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def _fill(self, *values: object) -> None:
        for name, value in zip(self.__match_args__, values, strict=True):
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} never changes: build another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} never changes: build another one")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Value) or type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        fields = ", ".join(map("{}={!r}".format, self.__match_args__, self._values()))
        return f"{type(self).__name__.lower()}({fields})"

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), self._values()


class Curve(_Value):
    """A backoff whose delay before jitter depends on the number of the retry alone."""

    __slots__ = ()

    jitter: Jitter

    def delay(self, retry: int) -> float:
        """The delay before jitter, in seconds."""
        raise NotImplementedError

    def __call__(self, retry: int, previous: float, u: float) -> float:
        """The delay before retry number `retry`, in seconds, for the chance `u` in [0, 1)."""
        d = self.delay(retry)
        jitter = self.jitter
        if jitter == "full":
            return u * d
        if jitter == "equal":
            return d / 2 + u * d / 2
        if jitter == "none":
            return d
        return min(d * (1 - jitter + 2 * jitter * u), _LARGEST)

    def preview(self, n: int) -> list[tuple[float, float]]:
        """The least and the greatest delay, in seconds, of each of the first `n` retries."""
        return [(self(retry, 0.0, 0.0), self(retry, 0.0, 1.0)) for retry in range(1, n + 1)]


class Exponential(Curve):
    """Each delay is `factor` times the one before, up to `cap`."""

    __slots__ = __match_args__ = ("base", "factor", "cap", "jitter")

    base: float
    factor: float
    cap: float

    def __init__(self, base: float, factor: float, cap: float, jitter: Jitter) -> None:
        self._fill(base, factor, cap, jitter)

    def delay(self, retry: int) -> float:
        """`base * factor**(retry - 1)`, at most `cap`."""
        return _geometric(self.base, self.factor, retry - 1, self.cap)


class Constant(Curve):
    """Every delay is the same."""

    __slots__ = __match_args__ = ("seconds", "jitter")

    seconds: float

    def __init__(self, seconds: float, jitter: Jitter) -> None:
        self._fill(seconds, jitter)

    def delay(self, retry: int) -> float:
        """The one delay."""
        return self.seconds

    def __repr__(self) -> str:
        return f"constant(delay={self.seconds!r}, jitter={self.jitter!r})"


class Linear(Curve):
    """Each delay is `step` longer than the one before, up to `cap`."""

    __slots__ = __match_args__ = ("step", "cap", "jitter")

    step: float
    cap: float

    def __init__(self, step: float, cap: float, jitter: Jitter) -> None:
        self._fill(step, cap, jitter)

    def delay(self, retry: int) -> float:
        """`step * retry`, at most `cap`."""
        return min(self.cap, self.step * retry)


class Fibonacci(Curve):
    """Each delay is the sum of the two before, up to `cap`: a growth of 1.62, gentler than doubling."""

    __slots__ = __match_args__ = ("base", "cap", "jitter")

    base: float
    cap: float

    def __init__(self, base: float, cap: float, jitter: Jitter) -> None:
        self._fill(base, cap, jitter)

    def delay(self, retry: int) -> float:
        """`base` times the Fibonacci number of `retry`, at most `cap`."""
        if retry <= _LARGEST_FIBONACCI:
            return min(self.cap, self.base * _fibonacci(retry)[0])
        # Binet: F(n) is the integer nearest to golden**n / sqrt(5), and this far out the two are one float.
        return _geometric(self.base, _GOLDEN, retry - _SQRT_5, self.cap)


class Schedule(Curve):
    """The delays are listed, and the last one repeats."""

    __slots__ = __match_args__ = ("delays", "jitter")

    delays: tuple[float, ...]

    def __init__(self, delays: tuple[float, ...], jitter: Jitter) -> None:
        self._fill(delays, jitter)

    def delay(self, retry: int) -> float:
        """Entry number `retry`, or the last one."""
        delays = self.delays
        return delays[min(retry, len(delays)) - 1]


class Decorrelated(_Value):
    """A random walk: each delay is drawn from between `base` and three times the delay before, up to `cap`."""

    __slots__ = __match_args__ = ("base", "cap")

    base: float
    cap: float

    def __init__(self, base: float, cap: float) -> None:
        self._fill(base, cap)

    def __call__(self, retry: int, previous: float, u: float) -> float:
        """The delay after one of `previous` seconds, in seconds, for the chance `u` in [0, 1)."""
        base = self.base
        spread = max(previous, base) * 3 - base
        return min(self.cap, base + u * min(spread, _LARGEST))

    def preview(self, n: int) -> list[tuple[float, float]]:
        """The least and the greatest delay, in seconds, of each of the first `n` retries."""
        low = min(self.cap, self.base)
        return [(low, _geometric(self.base, 3.0, retry, self.cap)) for retry in range(1, n + 1)]


def _geometric(base: float, factor: float, exponent: float, cap: float) -> float:
    """`min(cap, base * factor**exponent)`, where the power alone may be too large for a float."""
    try:
        power: float = factor**exponent
        return min(cap, base * power)
    except OverflowError:
        if base == 0:
            return 0.0
    try:
        return min(cap, exp(log(base) + exponent * log(factor)))
    except OverflowError:
        return cap


def _fibonacci(n: int) -> tuple[int, int]:
    """F(n) and F(n + 1), by doubling: F(2k) = F(k) * (2*F(k+1) - F(k)), F(2k+1) = F(k)**2 + F(k+1)**2."""
    if n == 0:
        return 0, 1
    a, b = _fibonacci(n // 2)
    c, d = a * (2 * b - a), a * a + b * b
    return (d, c + d) if n % 2 else (c, d)
