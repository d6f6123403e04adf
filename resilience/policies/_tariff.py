"""What a call costs in the tokens of each rate, and who may spend them.

People say what a call costs in several ways: a number, a mapping of resources, a function of the call. Inside there
is one: a tuple with a cost per rate, 0.0 where a rate is not concerned. Two rates on one resource ("10/s;
100/minute") are charged alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from resilience._checks import is_number, number, share, wrong_type, wrong_value
from resilience.context import Priority, current_priority
from resilience.core.bucket import Bucket
from resilience.rates import Rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias, TypeGuard

    Costs: TypeAlias = tuple[float, ...]
    Cost: TypeAlias = float | Mapping[str, float]
    Key: TypeAlias = str | int | tuple[str | int, ...]

__all__ = ["Tariff", "check_key", "checked_key", "headroom_by_rank", "rank_of_caller", "with_burst"]

_HIGHEST = int(Priority.CRITICAL)

_COST = 'a number above 0 or a mapping such as {"calls": 1, "tokens": 900}'


def rank_of_caller() -> int:
    """Where calls of the present priority stand in line; 0 goes first."""
    return _HIGHEST - current_priority()


def headroom_by_rank(headroom: object) -> tuple[float, ...]:
    """The shares of the burst that calls may not touch, by rank.

    A priority that is not named keeps what the next higher one keeps.
    """
    rule = "a mapping such as {Priority.SHEDDABLE: 0.5, Priority.DEFAULT: 0.1}"
    shares: list[float] = []
    given: dict[object, object] = {}
    if headroom is not None:
        if not _is_mapping(headroom):
            raise wrong_type("headroom", rule, headroom)
        given.update(headroom)
        if not all(isinstance(priority, Priority) for priority in given):
            raise wrong_type("headroom", rule, headroom)
    for priority in sorted(Priority, reverse=True):
        kept = shares[-1] if shares else 0.0
        if priority in given:
            kept = share(f"headroom[Priority.{priority.name}]", given[priority], zero=True)
            if shares and kept < shares[-1]:
                raise wrong_value("headroom", "no smaller for a lower priority than for a higher one", headroom)
        shares.append(kept)
    return tuple(shares)


def check_key(key: object) -> None:
    """Refuse what is no key: a key is a str, an int or a tuple of them."""
    if isinstance(key, str):
        return
    for part in key if _is_tuple(key) else (key,):
        if not isinstance(part, str | int) or isinstance(part, bool):
            raise wrong_type("key", "a str, an int or a tuple of them", key)


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


class Tariff:
    """The rates of one throttle, as costs are held against them. Immutable.

    Attributes:
        rates: the rates, in order.
        buckets: the same as buckets.
        keeps: per rank, the tokens of each rate that its calls may not touch.
        one: the costs of a call of cost 1.
    """

    __slots__ = ("_plain", "_resources", "buckets", "keeps", "one", "rates")

    def __init__(self, rates: Sequence[Rate], shares: Sequence[float]) -> None:
        self.rates = tuple(rates)
        self.buckets = tuple(Bucket(rate.amount, rate.per, rate.burst) for rate in rates)
        self.keeps = tuple(tuple(kept * rate.burst for rate in rates) for kept in shares)
        self._resources = frozenset(rate.of for rate in rates)
        self._plain = "calls" if "calls" in self._resources else None
        if len(self._resources) == 1:
            self._plain = next(iter(self._resources))
        self.one = tuple(1.0 if self._plain in (None, rate.of) else 0.0 for rate in rates)

    def costs(self, cost: object, name: str = "cost") -> Costs:
        """A cost per rate, from a number or a mapping; what a mapping omits costs nothing.

        Raises:
            TypeError, ValueError: it is neither, or names a resource that no rate has.
        """
        amounts = {of: number(f"{name} of {of}", amount) for of, amount in self._by_resource(cost, name).items()}
        if not amounts:
            raise wrong_value(name, _COST, cost)
        return tuple(amounts.get(rate.of, 0.0) for rate in self.rates)

    def settled(self, actual: object, estimate: Costs) -> Costs:
        """What a call really cost, from a number or a mapping; 0 is allowed, and what is not named is as estimated."""
        amounts = {
            of: number(f"the settled cost of {of}", amount, zero=True)
            for of, amount in self._by_resource(actual, "the settled cost").items()
        }
        return tuple(amounts.get(rate.of, before) for rate, before in zip(self.rates, estimate, strict=True))

    def check_burst(self, costs: Costs, rank: int) -> None:
        """Refuse a cost that could never pass, however long it waits.

        Raises:
            ValueError: a cost is above the burst, or above what a call of this rank may use of it.
        """
        for rate, cost, keep in zip(self.rates, costs, self.keeps[rank], strict=True):
            if cost and cost + keep > rate.burst:
                kept = f" less a headroom of {keep:g}" if keep else ""
                unit = "" if rate.of == "calls" else f" {rate.of}"
                raise ValueError(
                    f"a cost of {cost:g}{unit} is above the burst of {rate.burst:g}{kept}, so it would never pass: "
                    f"raise the burst or lower the cost"
                )

    def _by_resource(self, cost: object, name: str) -> Mapping[str, object]:
        if is_number(cost):
            if self._plain is None:
                raise ValueError(f"{name} must name its resource, one of {sorted(self._resources)}, got {cost!r}")
            return {self._plain: cost}
        if not _is_mapping(cost):
            raise wrong_type(name, _COST, cost)
        given: dict[str, object] = {}
        for of, amount in cost.items():
            if not isinstance(of, str) or of not in self._resources:
                raise ValueError(f"{name} names {of!r}, and the rates are of {sorted(self._resources)}")
            given[of] = amount
        return given


def with_burst(rates: Sequence[Rate], burst: float | None) -> Sequence[Rate]:
    """The rates, with the burst that was said for the only one."""
    if burst is None:
        return rates
    if len(rates) != 1:
        raise ValueError(f'burst is for one rate, got {len(rates)}: say it with each, as in "10/s burst 20"')
    rate, most = rates[0], number("burst", burst)
    if rate.burst not in (max(1.0, rate.amount), most):
        raise ValueError(f"burst is said twice, {burst!r} and in {rate!r}: say it once")
    return (Rate(rate.amount, rate.per, burst=most, of=rate.of),)


def checked_key(key: object) -> str | Callable[..., Any] | None:
    """What a throttle was told about its keys."""
    if key is None or callable(key):
        return key
    rule = "the name of a parameter, or a callable of the call's arguments"
    if not isinstance(key, str):
        raise TypeError(f"key must be {rule}, got {key!r}")
    if not key.isidentifier():
        raise ValueError(f"key must be {rule}, got {key!r}")
    return key
