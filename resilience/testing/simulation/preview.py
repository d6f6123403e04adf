"""What a backoff comes to: the waits as a table, a sparkline, and the sum in the worst case.

Five parameters of a backoff say little to anybody until they are seconds. The least and the greatest wait are exact:
they are those for the least and the greatest chance. For a decorrelated backoff, whose waits depend on the one before,
they are those of the shortest and of the longest course.
"""

from __future__ import annotations

from resilience import backoff
from resilience._checks import positive_int
from resilience.testing.simulation.expressions import BACKOFFS, evaluate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.backoff import Backoff

__all__ = ["preview"]

_BARS = "▁▂▃▄▅▆▇█"
_ALMOST_ONE = 1.0 - 2.0**-53


def preview(text: str, retries: int = 8) -> str:
    """The first `retries` waits of a backoff, for people to read.

    Args:
        text: an expression such as `exponential(base=0.1, cap=5)`, a number of seconds, or a list of them.
        retries: how many.

    Raises:
        TypeError, ValueError: the expression is none of these, or a parameter breaks its rule.
    """
    count = positive_int("retries", retries)
    chosen = backoff.coerce(evaluate(text, BACKOFFS, "the backoff"), "the backoff")
    least, middle, most = (_course(chosen, count, u) for u in (0.0, 0.5, _ALMOST_ONE))
    lines = [f"{chosen!r}", "", "retry      least     middle       most  most in all"]
    total = 0.0
    for number, row in enumerate(zip(least, middle, most, strict=True), 1):
        total += row[2]
        lines.append(f"{number:5}  {row[0]:7.3f} s  {row[1]:7.3f} s  {row[2]:7.3f} s  {total:9.3f} s")
    lines += ["", f"{_sparkline(most)}  worst case {total:.3f} s of waiting, {count + 1} attempts"]
    return "\n".join(lines)


def _course(chosen: Backoff, retries: int, u: float) -> list[float]:
    waits: list[float] = []
    previous = 0.0
    for retry in range(1, retries + 1):
        previous = chosen(retry, previous, u)
        waits.append(previous)
    return waits


def _sparkline(values: list[float]) -> str:
    top = max(values)
    if top == 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * len(_BARS)))] for value in values)
