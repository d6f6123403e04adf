"""Rates as people write them: "100/s", "10/minute burst 20", "5 per 2 seconds".

A limit belongs in a configuration file, where somebody who knows the business can read and change it. So a rate is a
small value that can be written as text, and what cannot be read is refused with the place and what to write instead.
A bare `m` is refused, because one reader takes it for a minute, the next for a month or a million.
"""

from __future__ import annotations

import re

from resilience._checks import is_number, number, seconds, wrong_type, wrong_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta
    from typing import NoReturn

__all__ = ["Quota", "Rate", "rates_from"]

_SECONDS: dict[str, float] = {
    unit: length
    for units, length in (
        ("s sec secs second seconds", 1.0),
        ("min mins minute minutes", 60.0),
        ("h hour hours", 3600.0),
        ("d day days", 86400.0),
    )
    for unit in units.split()
}

_NUMBER = r"(?:\d[\d_]*(?:\.\d[\d_]*)?|\.\d[\d_]*)"
_RATE = re.compile(
    rf"""\s* (?P<amount>{_NUMBER}) (?: \s+ (?P<of>(?!(?:per|burst)\b)[^\W\d][\w-]*) )?
         \s* (?: / | \b per \b ) \s*
         (?P<count>{_NUMBER})? \s* (?P<unit>[^\W\d_]+)
         (?: \s+ burst \s+ (?P<burst>{_NUMBER}) )? \s*""",
    re.VERBOSE,
)
_EXAMPLES = '"100/s", "10/minute burst 20" or "500 calls/minute; 200_000 tokens/minute"'
_FASTEST = 1e100
"""Beyond this a float cannot count what it is told to."""


class _Value:
    """A small immutable value: compares, hashes, prints and pickles by its fields."""

    __slots__ = ()

    def _values(self) -> tuple[object, ...]:
        fields: tuple[str, ...] = self.__slots__
        return tuple(getattr(self, field) for field in fields)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def _set(self, **fields: object) -> None:
        for field, value in fields.items():
            object.__setattr__(self, field, value)


class Rate(_Value):
    """So many tokens every so many seconds, and so many at once. Immutable; compares by value.

    Args:
        amount: tokens gained every `per` seconds.
        per: seconds, or a `timedelta`.
        burst: tokens that may be taken at once; the amount by default, and at least 1.
        of: what the tokens stand for. A cost that is a plain number is one of "calls".

    Raises:
        TypeError, ValueError: a parameter breaks its rule; the message names the parameter, the rule and the value.
    """

    __slots__ = ("amount", "burst", "of", "per")

    amount: float
    per: float
    burst: float
    of: str

    def __init__(
        self, amount: float, per: float | timedelta = 1.0, *, burst: float | None = None, of: str = "calls"
    ) -> None:
        given: object = amount
        if isinstance(given, str):
            raise TypeError(
                f"amount must be a number above 0, got {amount!r}; to read a rate write Rate.parse({amount!r})"
            )
        checked = number("amount", amount)
        length = seconds("per", per)
        if not 1.0 / _FASTEST <= checked / length <= _FASTEST:
            raise wrong_value("amount", "a number that a clock in seconds can tell apart from 0 and infinity", amount)
        resource = _checked_resource(of)
        most = max(1.0, checked) if burst is None else number("burst", burst)
        self._set(amount=checked, per=length, burst=most, of=resource)

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read one rate from text.

        Raises:
            ValueError: the text is no rate, or more than one; the message shows what to write.
        """
        rates = parse(text)
        if len(rates) != 1:
            raise ValueError(f"one rate was expected, got {len(rates)} in {text!r}")
        return rates[0]

    def __repr__(self) -> str:
        per = "" if self.per == 1.0 else f", per={_short(self.per)}"
        burst = "" if self.burst == max(1.0, self.amount) else f", burst={_short(self.burst)}"
        of = "" if self.of == "calls" else f", of={self.of!r}"
        return f"Rate({_short(self.amount)}{per}{burst}{of})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rate, (self.amount, self.per, self.burst, self.of)


class Quota(_Value):
    """What is left of a limit. Immutable; compares by value.

    Attributes:
        limit: tokens that may be taken at once when nothing was taken for long.
        remaining: tokens that may be taken now; 0.0 or more.
        reset_after: seconds until everything is back, if nobody takes more.
        retry_after: seconds until a call of cost 1 passes; 0.0 when it would now.
    """

    __slots__ = ("limit", "remaining", "reset_after", "retry_after")

    limit: float
    remaining: float
    reset_after: float
    retry_after: float

    def __init__(self, limit: float, remaining: float, reset_after: float, retry_after: float) -> None:
        self._set(limit=limit, remaining=remaining, reset_after=reset_after, retry_after=retry_after)

    def __repr__(self) -> str:
        return f"Quota({', '.join(f'{field}={getattr(self, field)!r}' for field in self.__slots__)})"

    def __reduce__(self) -> tuple[object, ...]:
        return Quota, self._values()


def rates_from(given: Iterable[object]) -> tuple[Rate, ...]:
    """The rates of a throttle: each given as text, of one rate or several, or as a `Rate`.

    Raises:
        TypeError, ValueError: there is none, or one is neither; the message shows what to write.
    """
    rates: list[Rate] = []
    for each in given:
        if isinstance(each, Rate):
            rates.append(each)
        elif isinstance(each, str):
            rates += parse(each)
        else:
            hint = f'; a number needs a time, as in "{each}/s"' if is_number(each) else ""
            raise TypeError(f"a rate must be text such as {_EXAMPLES}, or a Rate, got {each!r}{hint}")
    if not rates:
        raise TypeError(f"a throttle needs at least one rate, such as {_EXAMPLES}")
    return tuple(rates)


def parse(text: str) -> list[Rate]:
    """Read rates from text, one or several between semicolons.

    Raises:
        ValueError: a part cannot be read; the message shows it and what to write.
    """
    return [_parse_one(part, text) for part in text.split(";")]


def _parse_one(part: str, text: str) -> Rate:
    match = _RATE.fullmatch(part)
    if match is None:
        where = "" if part == text else f" in {text!r}"
        raise ValueError(f"a rate must read like {_EXAMPLES}, got {part.strip()!r}{where}")
    unit = match["unit"].lower()
    if unit == "m":
        raise ValueError(f'"m" may be a minute, a month or a million: say min, got {part.strip()!r}')
    if unit not in _SECONDS:
        raise ValueError(f"unknown unit {match['unit']!r} in {part.strip()!r}: say s, min, h or day")
    try:
        amount, count, burst = (
            None if match[name] is None else _number(match[name]) for name in ("amount", "count", "burst")
        )
        per = _SECONDS[unit] * (1.0 if count is None else count)
        return Rate(amount or 0.0, per, burst=burst, of=match["of"] or "calls")
    except ValueError as error:
        raise ValueError(f"{error} in {part.strip()!r}") from None


def _checked_resource(of: object) -> str:
    rule = 'the name of a resource, such as "tokens"'
    if not isinstance(of, str):
        raise wrong_type("of", rule, of)
    if not of.strip():
        raise wrong_value("of", rule, of)
    return of


def _number(text: str) -> float:
    if "__" in text or text.endswith("_") or "_." in text or "._" in text:
        raise ValueError(f"an underscore stands between two digits, got {text!r}")
    return float(text)


def _short(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _rate(amount: float, per: float, burst: float, of: str) -> Rate:
    return Rate(amount, per, burst=burst, of=of)
