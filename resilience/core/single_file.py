"""The line as it mostly is: one rate, everybody of one priority, nothing promised.

Then the order of arrival is the order of going, and nobody's place depends on anything but the sum of those before. So
whoever comes stands behind the last, and those whose turn has come leave in one walk along the front: a few additions
for each, where `resilience.core.line` has to ask the buckets for every one of them what else is spoken for. Ten
thousand waiters are ten thousand times that.

What happens here is what the line would do, to the last place. Where a sum does not come out as one float, or anything
is not as simple as that, these functions do nothing and leave it to the line.
"""

from __future__ import annotations

from math import inf, ulp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resilience.core.line import Line
    from resilience.core.promises import Waiter

__all__ = ["follow", "let_go"]


def follow(line: Line, waiter: Waiter, now: float, max_wait: float, armed: float) -> bool:
    """Have a claim wait behind others of its rank, if somebody looks at its line in time, at `armed`.

    Its turn must surely come within `max_wait` seconds. Where that is inf, `now` is of no account; else the head of the
    line must not be due. That moves no alarm and ends nobody's wait. False, with nothing done, where it is not as
    simple as that.
    """
    rank = line.only_rank()
    if line.alarm < armed or rank is None or rank.number != waiter.rank or len(waiter.costs) != 1:
        return False
    cost = waiter.costs[0]
    if max_wait < inf:
        ledger = line.ledger
        (state,) = ledger.load(waiter.key)
        need = rank.need.values()[0] + cost
        turn = ledger.buckets[0].when(state, need, ledger.keeps[waiter.rank][0])
        # Where it is a matter of the last places, the line decides.
        slack = now + max_wait - turn - 64.0 * ulp(turn)
        if slack < 0.0 or turn <= now or line.alarm <= now or not rank.need.shift(cost):
            return False
        rank.slack = min(rank.slack, slack)
        waiter.deadline = now + max_wait
    else:
        if not rank.need.shift(cost):
            return False
        waiter.deadline = inf
    line.arrivals = waiter.number = line.arrivals + 1
    waiter.waits = True
    rank.queue.append(waiter)
    rank.end = None
    return True


def let_go(line: Line, now: float, granted: list[Waiter]) -> float | None:
    """Let those at the front take whose turn has come, in order, and add those to `granted`.

    Returns the reading at which the next will be due; None where the line has to be asked, about this and the rest.
    """
    ledger = line.ledger
    rank = line.only_rank()
    if rank is None or len(ledger.buckets) != 1 or ledger.keeps[rank.number][0] or ledger.has_refunds:
        return None
    (state,) = ledger.load(line.key)
    need = rank.need.sole()
    if need is None or isinstance(state, tuple):
        return None
    bucket = ledger.buckets[0]
    reach = bucket.at(now)
    floor = reach - bucket.burst
    start = state
    if start < floor:
        if reach < bucket.burst or reach - floor != bucket.burst:
            return None
        start = floor
    due: float | None = None
    queue, before = rank.queue, len(granted)
    # For each who goes, these few lines are all there is: no call but the three that move it.
    while queue:
        head = queue[0]
        if not head.waits:
            queue.popleft()
            rank.gone -= 1
            continue
        cost = head.costs[0]
        taken = start + cost
        if taken - cost != start or taken - start != cost:
            break
        if taken > reach:
            due = bucket.reached_at(taken, now, reach)
            break
        rest = need - cost
        if need - rest != cost or rest + cost != need:
            break
        need = rest
        start = state = taken
        queue.popleft()
        head.waits = False
        head.marks = (taken,)
        granted.append(head)
    if len(granted) > before:
        ledger.store(line.key, (state,))
        rank.need.put(need)
        if not queue:
            rank.clear(1)
    return due
