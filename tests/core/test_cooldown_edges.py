"""Cooldowns at their edges: of no length, from the first backoff on, and started anew."""

from __future__ import annotations

import math

import pytest

from resilience.backoff import decorrelated
from resilience.core.cooldown import Cooldown, first, measure


@pytest.mark.parametrize("answer", [0, 0.0, 0.5, 1])
def test_a_backoff_may_answer_with_no_time_or_less_than_a_second(answer: float) -> None:
    """Every number of seconds from 0 on is a length, and comes as a float."""
    seconds = measure(lambda *_: answer, 1, 0.0, 0.0)
    assert seconds == answer
    assert type(seconds) is float


def test_the_first_cooldown_follows_none() -> None:
    """A random walk begins at its base, as there is no cooldown before the first."""
    assert first(decorrelated(0.1)) == pytest.approx(0.3)


@pytest.mark.parametrize("grows", [True, False])
def test_before_the_first_opening_nothing_runs(grows: bool) -> None:
    """A new circuit's cooldown has no end to wait for and asks for no length."""
    new = Cooldown(4.0, grows)
    assert (new.ends, new.unmeasured, new.patience) == (0.0, None, 4.0)
    assert new.rest == (0.0 if grows else 4.0)


def test_started_anew_before_its_length_is_known_no_hint_stays() -> None:
    """A cooldown that is started anew and then told its length lasts exactly that, however short."""
    it = Cooldown(4.0, grows=True)
    it.begin(0.0, 100.0)
    opening = it.unmeasured
    assert opening is not None
    it.again(10.0)
    assert it.ends == math.inf
    it.tell(opening, 0.25)
    assert it.ends == 10.25
