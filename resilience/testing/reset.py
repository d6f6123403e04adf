"""Every policy as it was built.

Policies live at module level, so what one test does to a breaker the next one finds there. Building them anew for each
test would mean importing the service anew; so here they are put back instead. Each policy builds a twin of itself, as
`replace()` does, and takes the twin's state. No kind of policy needs to be known for that, and what a policy calls
fresh stays in one place, its constructor.
"""

from __future__ import annotations

from resilience._hub import live
from resilience.core.breaker import Circuit
from resilience.policies._circuit import SharedCircuit

__all__ = ["reset_all"]


def reset_all() -> None:
    """Give every live policy the state that it had when it was built.

    Circuits close, buckets and budgets are full, what was learnt is forgotten, and so are the keys of each `Keyed`.
    Calls in flight stay in flight, and listeners, names and configuration stay as they are. What is in a store stays
    there. Safe from any thread.
    """
    for policy in list(live):
        # A pipeline has no state of its own, and to build one again would repeat its warnings.
        if policy._freeze():
            policy._thaw(policy.replace()._freeze())
        if isinstance(policy, SharedCircuit):
            # Closed again, it would take the end of a call that began while it was first closed for one of its own.
            # What a store knows of the circuit is left alone.
            SharedCircuit._change(policy, Circuit.reset)
