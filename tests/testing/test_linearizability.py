"""The checker of histories: what it explains, what it does not, and how it says so."""

from __future__ import annotations

import time

import pytest

from resilience.testing.interleave_threads import InterleavingError, interleave
from tests.linearizability import Call, Gang, History, assert_linearizable, explain, overlaps


class Register:
    """The model of a variable."""

    def __init__(self) -> None:
        self.value = 0

    def step(self, call: Call) -> int | None:
        if call.name == "read":
            return self.value
        self.value = call.argument
        return None

    def key(self) -> int:
        return self.value


class Tickets:
    """The model of a number of tickets: one for each that asks, as long as there are any."""

    def __init__(self, left: int = 2) -> None:
        self.left = left

    def step(self, _: Call) -> bool:
        granted = self.left > 0
        self.left -= granted
        return granted

    def key(self) -> int:
        return self.left


class HastyTickets(Tickets):
    """Looks, lets others come, and then takes."""

    def take(self) -> bool:
        if self.left == 0:
            return False
        left = self.left
        time.sleep(0)
        self.left = left - 1
        return True


def written(*events: tuple[int, str, object]) -> History:
    """A history by hand: (thread, what it calls) begins, (thread, "->", answer) ends."""
    history, under_way = History(), {}
    for thread, said, value in events:
        if said == "->":
            history.end(under_way[thread], value)
        else:
            under_way[thread] = call = history.begin(said, value)
            call.thread = thread
    return history


def test_calls_that_overlap_may_be_told_in_either_order() -> None:
    """A read that began before a write ended may have come before it or after it."""
    for read in (0, 7):
        history = written((1, "write", 7), (2, "read", None), (2, "->", read), (1, "->", None))
        path = explain(history, Register())
        assert path is not None
        assert [call.name for call in path] == (["write", "read"] if read else ["read", "write"])
        assert overlaps(history) == 1


def test_a_call_that_ended_before_another_began_comes_before_it() -> None:
    """A read that began after a write had ended sees what was written, and nothing else explains it."""
    assert explain(written((1, "write", 7), (1, "->", None), (2, "read", None), (2, "->", 7)), Register())
    assert explain(written((1, "write", 7), (1, "->", None), (2, "read", None), (2, "->", 0)), Register()) is None


def test_what_was_seen_once_is_not_unseen() -> None:
    """Of two reads during one write, the second cannot see the value before it if the first saw the one after it."""
    events = [(1, "write", 7), (2, "read", None), (2, "->", 7), (2, "read", None), (2, "->", 0), (1, "->", None)]
    assert explain(written(*events), Register()) is None
    events[2], events[4] = events[4], events[2]
    assert explain(written(*events), Register())


def test_a_call_without_an_end_may_have_taken_effect_or_not() -> None:
    """What has begun and not ended explains what others saw, or is left out."""
    for read in (0, 7):
        assert explain(written((1, "write", 7), (2, "read", None), (2, "->", read)), Register()) is not None
    assert explain(written((1, "write", 7), (2, "read", None), (2, "->", 8)), Register()) is None


def test_the_shortest_beginning_is_shown() -> None:
    """The failure shows the history up to the answer that nothing explains, a column for each thread."""
    history = written(
        (1, "write", 7), (1, "->", None), (2, "read", None), (2, "->", 0), (1, "read", None), (1, "->", 7)
    )
    with pytest.raises(AssertionError) as caught:
        assert_linearizable(history, Register())
    assert [line.split() for line in str(caught.value).splitlines()[1:]] == [
        ["write(7)"],
        ["->", "None"],
        ["read"],
        ["->", "0"],
    ]


def test_a_race_of_threads_is_seen() -> None:
    """Tickets that are looked at before they are taken give themselves away in a few hundred short histories."""
    with Gang.of(3) as gang, pytest.raises(AssertionError, match="no order of these calls"):
        for _ in range(400):
            history, tickets = History(), HastyTickets()

            def part(history: History = history, tickets: HastyTickets = tickets) -> None:
                for _ in range(3):
                    history.call("take", tickets.take)

            gang.run([part] * 3)
            assert_linearizable(history, Tickets())


def test_a_race_between_instructions_is_seen() -> None:
    """The same without anything that lets others come, in histories that the explorer of interleavings makes."""

    class Subject(Tickets):
        def __init__(self) -> None:
            super().__init__()
            self.history = History()

        def part(self) -> None:
            for _ in range(2):
                self.history.call("take", lambda: self.step(Call("take", None, 0)))

    with pytest.raises(InterleavingError, match="no order of these calls"):
        interleave(
            Subject.part,
            Subject.part,
            setup=Subject,
            check=lambda subject: assert_linearizable(subject.history, Tickets()),
            runs=1_000,
        )


def test_an_error_in_a_thread_is_heard() -> None:
    """What a thread of the gang raises is raised by the round."""

    def fall() -> None:
        raise ValueError("here")

    with Gang.of(2) as gang:
        with pytest.raises(ValueError, match="here"):
            gang.run([fall, int])
        gang.run([int, int])
