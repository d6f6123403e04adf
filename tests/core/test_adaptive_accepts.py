"""What a client holds back: the formula against a second model, the floor, and the time after an outage."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.core.accepts import REFUSED, Accepts
from resilience.core.verdict import FAILURE, IGNORED, SUCCESS, Verdict

NEVER = 1 - 1e-12  # a chance that no share reaches


def sent(accepts: Accepts, now: float, verdict: Verdict, times: int = 1) -> None:
    """Send calls, whatever the chances, and have them answered at once."""
    for _ in range(times):
        permit = accepts.acquire(now, NEVER)
        assert permit != REFUSED
        accepts.settle(permit, verdict)


def held_back(accepts: Accepts, now: float, times: int) -> None:
    """Have calls held back."""
    for _ in range(times):
        assert accepts.acquire(now, 0.0) == REFUSED


@pytest.mark.parametrize(
    ("k", "accepted", "refused", "share"),
    [
        (2.0, 10, 0, 0.0),
        (2.0, 50, 50, 0.0),
        (2.0, 10, 20, 10 / 31),
        (2.0, 0, 20, 20 / 21),
        (1.0, 10, 10, 10 / 21),
        (1.5, 20, 20, 10 / 41),
        (3.0, 10, 20, 0.0),
    ],
)
def test_the_share_that_is_held_back(k: float, accepted: int, refused: int, share: float) -> None:
    """The share is (requests - k * accepts) / (requests + 1), and never below 0."""
    accepts = Accepts(k, 30.0, 10, 0.99)
    sent(accepts, 1.0, SUCCESS, accepted)
    sent(accepts, 1.0, FAILURE, refused)
    assert accepts.rejection(1.0) == pytest.approx(share)
    assert accepts.counts(1.0) == (accepted + refused, accepted)


def test_what_is_held_back_is_a_request() -> None:
    """Calls held back while the backend refuses count as requests, so that about k are sent for each accepted one."""
    accepts = Accepts(2.0, 30.0, 10, 0.95)
    sent(accepts, 1.0, SUCCESS, 10)
    sent(accepts, 1.0, FAILURE, 20)
    held_back(accepts, 1.0, 30)
    assert accepts.counts(1.0) == (60, 10)
    assert accepts.rejection(1.0) == pytest.approx(40 / 61)


def test_a_share_of_calls_always_goes_on() -> None:
    """However long nothing is accepted, the share that is held back stays at its bound."""
    accepts = Accepts(2.0, 30.0, 10, 0.9)
    sent(accepts, 1.0, FAILURE, 10_000)
    assert accepts.rejection(1.0) == 0.9
    assert accepts.acquire(1.0, 0.899) == REFUSED
    assert accepts.acquire(1.0, 0.9) != REFUSED


def test_nothing_is_held_back_on_little_evidence() -> None:
    """Below the minimum of calls nothing is held back, at the minimum it is."""
    accepts = Accepts(2.0, 30.0, 10, 0.95)
    sent(accepts, 1.0, FAILURE, 9)
    assert accepts.rejection(1.0) == 0.0
    sent(accepts, 1.0, FAILURE)
    assert accepts.rejection(1.0) == pytest.approx(10 / 11)


def test_what_is_not_answered_yet_does_not_count() -> None:
    """A thousand calls under way to a slow backend are no reason to hold back the next."""
    accepts = Accepts(2.0, 30.0, 10, 0.95)
    permits = [accepts.acquire(1.0, 0.0) for _ in range(1000)]
    assert accepts.rejection(1.0) == 0.0
    for permit in permits:
        accepts.settle(permit, SUCCESS)
    assert accepts.counts(1.0) == (1000, 1000)


def test_a_neutral_end_is_none() -> None:
    """A call that ended for no reason of its own is neither a request nor an accept."""
    accepts = Accepts(2.0, 30.0, 1, 0.95)
    sent(accepts, 1.0, IGNORED, 100)
    assert accepts.counts(1.0) == (0, 0)


def test_an_answer_counts_among_those_it_was_sent_with() -> None:
    """A slow answer leaves the window with the calls that were sent when it was, and later ones say nothing."""
    accepts = Accepts(2.0, 10.0, 1, 0.95)
    permit, late = accepts.acquire(0.5, 0.0), accepts.acquire(0.5, 0.0)
    sent(accepts, 5.5, SUCCESS)
    accepts.settle(permit, FAILURE)
    assert accepts.counts(9.9) == (2, 1)
    assert accepts.counts(10.5) == (1, 1)
    accepts.settle(late, FAILURE)
    assert accepts.counts(10.5) == (1, 1)


def test_calls_count_for_nine_tenths_of_the_window_at_least() -> None:
    """A call counts for 0.9 to 1.0 of the window."""
    accepts = Accepts(2.0, 10.0, 1, 0.95)
    sent(accepts, 100.0, SUCCESS)
    sent(accepts, 100.9, SUCCESS)
    assert accepts.counts(109.9) == (2, 2)
    assert accepts.counts(110.0) == (0, 0)


def test_calls_held_back_in_vain_do_not_count() -> None:
    """Once the backend refuses nothing, what is held back beside it keeps nobody from being sent."""
    accepts = Accepts(2.0, 10.0, 10, 0.95)
    sent(accepts, 0.0, FAILURE, 100)
    held_back(accepts, 0.0, 900)
    for second in range(1, 10):
        sent(accepts, second, SUCCESS, 5)
        held_back(accepts, second, 95)
    assert accepts.counts(9.5) == (1045, 45)
    assert accepts.counts(10.0) == (45, 45)
    assert accepts.rejection(10.0) == 0.0


def test_time_never_runs_backwards() -> None:
    """A reading from before the newest one neither forgets nor revives anything."""
    accepts = Accepts(2.0, 10.0, 1, 0.95)
    sent(accepts, 50.0, FAILURE, 20)
    held_back(accepts, 40.0, 5)
    assert accepts.counts(-100.0) == (25, 0)
    assert accepts.counts(60.0) == (0, 0)


class Naive:
    """The window as a list of all that happened in it."""

    def __init__(self, k: float, window: float, minimum: int, most: float) -> None:
        self.k, self.window, self.minimum, self.most = k, window, minimum, most
        self.happened: list[tuple[int, str]] = []

    def rejection(self, slice_: int) -> float:
        recent = [entry for entry in self.happened if entry[0] > slice_ - 10]
        bad = {number for number, what in recent if what == "refused"}
        requests = sum(what != "held back" or number in bad for number, what in recent)
        accepts = sum(what == "accepted" for _, what in recent)
        if requests < self.minimum:
            return 0.0
        return min(self.most, max(0.0, (requests - self.k * accepts) / (requests + 1)))


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 30), st.sampled_from(["accepted", "refused"])), max_size=30
    ),
    k=st.sampled_from([1.0, 1.5, 2.0, 4.0]),
    seed=st.integers(0, 9),
)
def test_the_same_as_a_list_of_all_calls(steps: list[tuple[int, int, str]], k: float, seed: int) -> None:
    """Slices and running sums give what a list of everything gives, call by call."""
    rng = random.Random(seed)
    accepts, naive, slice_ = Accepts(k, 10.0, 5, 0.9), Naive(k, 10.0, 5, 0.9), 0
    accepts.rejection(0.0)
    for pause, times, answer in steps:
        slice_ += pause
        for _ in range(times):
            u, now = rng.random(), slice_ + rng.random() * 0.99
            share = naive.rejection(slice_)
            permit = accepts.acquire(max(now, slice_), u)
            assert (permit == REFUSED) == (u < share)
            naive.happened.append((slice_, "held back" if permit == REFUSED else answer))
            if permit != REFUSED:
                accepts.settle(permit, SUCCESS if answer == "accepted" else FAILURE)
        assert accepts.rejection(float(slice_)) == pytest.approx(naive.rejection(slice_))
