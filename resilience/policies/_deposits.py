"""One deposit for a call, however many policies around it hold the same budget.

A retry and a hedge inside it both see the call succeed. Were both to deposit in the budget that they share, a call
would earn twice what the budget says. Who stands outside counts calls, who stands inside counts attempts: so the outer
one deposits. It finds out when it is bound, and a call pays nothing for it: a function that deposits is noted here
beside the same function without, and whoever binds it and deposits in the same budget itself takes the latter.
"""

from __future__ import annotations

from types import FunctionType
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from resilience.policies.budget import RetryBudget

    Fn = Callable[..., Any]

__all__ = ["note_deposits", "without_deposits"]

_silent: WeakKeyDictionary[Fn, tuple[RetryBudget, Fn]] = WeakKeyDictionary()


def note_deposits(fn: Fn, budget: RetryBudget, silent: Fn) -> None:
    """Remember that a bound function deposits in a budget, and what does the same without."""
    _silent[fn] = (budget, silent)


def without_deposits(fn: Fn, budget: RetryBudget) -> Fn:
    """The same function without deposits in `budget`, where it is known to make them; else the function itself."""
    entry = _silent.get(fn) if isinstance(fn, FunctionType) else None
    return fn if entry is None or entry[0] is not budget else entry[1]
