"""The policies of a scenario, built anew for one run.

A policy is a configuration with a little state. What is simulated is the configuration: on the time of the run, with
dice of the run, and with a state of its own, so that no run knows of another and the service's own policies of none.
"""

from __future__ import annotations

import warnings

from resilience import Pipeline, PipelineWarning
from resilience.policies._base import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any, TypeGuard

    from resilience.clock import Clock

__all__ = ["is_policy", "rebuilt"]


def is_policy(value: object) -> TypeGuard[Policy[Any]]:
    """Whether it is a policy of the library, and not only something with a `bind`."""
    return isinstance(value, Policy)


def rebuilt(value: Any, clock: Clock, dice: Random, known: dict[int, Any]) -> Any:
    """The same policy with fresh state, on this clock and with these dice, and so are the policies in it.

    Args:
        value: a policy; anything else is returned as it is.
        clock: whose time it is.
        dice: where chance comes from.
        known: what was rebuilt before, by identity: what policies shared they share again.
    """
    if not is_policy(value):
        return value
    policy = value
    if id(policy) in known:
        return known[id(policy)]
    arguments: dict[str, Any] = policy._arguments
    changes: dict[str, Any] = {}
    for name, argument in arguments.items():
        if is_policy(argument):
            changes[name] = rebuilt(argument, clock, dice, known)
        elif name == "policies":
            changes[name] = tuple(rebuilt(part, clock, dice, known) for part in argument)
        elif name == "factory":
            changes[name] = _rebuilding(argument, clock, dice)
    if "clock" in arguments:
        changes["clock"] = clock
    if "rng" in arguments:
        changes["rng"] = dice.random
    with warnings.catch_warnings():
        # What there is to say about its order was said when it was first built.
        warnings.simplefilter("ignore", PipelineWarning)
        fresh: Any
        if "policies" in changes:
            fresh = Pipeline(*changes["policies"], name=arguments["name"])
        else:
            fresh = policy.replace(**changes)
    # The original is kept beside it, so that its identity is not given to another object meanwhile.
    known[id(policy)] = fresh
    known[id(fresh)] = policy
    return fresh


def _rebuilding(factory: Callable[..., Any], clock: Clock, dice: Random) -> Callable[..., Any]:
    def build(*args: Any) -> Any:
        return rebuilt(factory(*args), clock, dice, {})

    return build
