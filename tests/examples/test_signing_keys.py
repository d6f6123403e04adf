"""How keys are kept: known ones are known at once, strangers cost next to nothing, and not knowing is no verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from examples.review_service.auth import keys as module
from examples.review_service.auth.errors import KeysUnavailable, ProviderUnavailable, UnknownKey
from examples.review_service.auth.jwks import Keys
from examples.review_service.auth.keys import FLOOR, FRESH, KEEP, SigningKeys
from examples.review_service.policies import policies
from resilience.testing import VirtualClock

KEY = rsa.generate_private_key(65537, 2048).public_key()
HOUR = 3600.0


class Provider:
    """Publishes whatever `kids` holds, and does to a fetch whatever `before` does."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.kids = ["old"]
        self.before: Callable[[], object] = lambda: None
        self.fetches: list[float] = []

    def fetch(self) -> Keys:
        self.fetches.append(self.clock.now())
        self.before()
        return dict.fromkeys(self.kids, KEY)

    def down(self) -> None:
        raise ProviderUnavailable("down")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture
def provider(clock: VirtualClock) -> Provider:
    return Provider(clock)


@pytest.fixture
def keys(clock: VirtualClock, provider: Provider) -> SigningKeys:
    return SigningKeys(provider.fetch, policies(clock).looks, clock)


def _settled(keys: SigningKeys) -> None:
    """Wait until no look is under way."""
    look = keys._under_way
    assert look is None or look._back.wait(10.0)


def _verdict(keys: SigningKeys, kid: str) -> str:
    try:
        keys.find(kid)
    except UnknownKey:
        return "unknown"
    except KeysUnavailable:
        return "unavailable"
    return "known"


def test_a_key_is_fetched_when_it_is_first_needed(keys: SigningKeys, provider: Provider) -> None:
    """Nothing is asked before the first token comes."""
    assert provider.fetches == []
    assert keys.find("old") is KEY
    assert len(provider.fetches) == 1


def test_a_known_key_does_not_wait_for_a_fetch_that_hangs(
    keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """While the provider hangs, a known key is found in no time, again and again."""
    keys.find("old")
    never = threading.Event()
    provider.before = never.wait
    try:
        clock.advance(FRESH)
        start = time.perf_counter()
        for _ in range(100):
            assert keys.find("old") is KEY
        assert time.perf_counter() - start < 2.0
        assert len(provider.fetches) == 2
    finally:
        never.set()
        _settled(keys)


def test_known_keys_stay_good_while_the_provider_is_down(
    keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """The provider is down for hours, and every token signed with a known key still verifies."""
    keys.find("old")
    provider.before = provider.down
    for _ in range(120):
        clock.advance(60.0)
        assert keys.find("old") is KEY
        _settled(keys)
    assert clock.now() > 1000.0 + HOUR


def test_keys_that_nobody_confirmed_for_a_day_are_not_used(
    keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """After a day without an answer the keys are not had any more, which is nobody's fault but the provider's."""
    keys.find("old")
    provider.before = provider.down
    clock.advance(KEEP + 1.0)
    assert _verdict(keys, "old") == "unavailable"


def test_an_idle_day_costs_one_fetch(keys: SigningKeys, provider: Provider, clock: VirtualClock) -> None:
    """Keys that have grown old because nobody came are fetched again, not refused."""
    keys.find("old")
    clock.advance(KEEP + 1.0)
    assert keys.find("old") is KEY
    assert len(provider.fetches) == 2


@pytest.mark.parametrize("age", [0.0, 0.1, FLOOR / 2, FLOOR, 60.0])
def test_an_emergency_rotation_is_picked_up_within_the_floor(
    age: float, keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """Whenever it happens, after at most the floor the new key is known and the old one is not any more."""
    keys.find("old")
    clock.advance(age)
    provider.kids = ["new"]
    assert _verdict(keys, "new") in {"known", "unknown"}
    clock.advance(FLOOR)
    assert keys.find("new") is KEY
    _settled(keys)
    assert _verdict(keys, "old") == "unknown"


def test_a_key_that_was_taken_back_is_dropped_without_a_token_of_the_new_one(
    keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """Tokens of the old key alone are enough to notice that it is no longer published."""
    keys.find("old")
    provider.kids = ["new"]
    clock.advance(FRESH)
    keys.find("old")
    _settled(keys)
    assert _verdict(keys, "old") == "unknown"


def test_a_flood_of_unknown_keys_makes_at_most_two_fetches_in_ten_seconds(
    keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """However many unknown keys are named, whether the provider is well or not, it is asked twice in ten seconds."""
    for number in range(6_000):
        clock.advance(0.01)
        provider.before = provider.down if (number // 1_500) % 2 else lambda: None
        assert _verdict(keys, f"made-up-{number}") != "known"
    assert len(provider.fetches) >= 60.0 / 10.0
    for start in provider.fetches:
        assert sum(start <= fetch <= start + 10.0 for fetch in provider.fetches) <= 2


def test_a_thousand_requests_at_a_rotation_make_one_fetch(
    keys: SigningKeys, provider: Provider, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them wait for the one fetch, and all of them get the new key."""
    monkeypatch.setattr(module, "PATIENCE_OF_A_CROWD", 30.0)
    keys.find("old")
    clock.advance(FLOOR)
    provider.kids = ["old", "new"]
    all_here = threading.Barrier(1001)
    provider.before = lambda: threading.Event().wait(0.05)

    def find(_: int) -> object:
        all_here.wait(30.0)
        return keys.find("new")

    with ThreadPoolExecutor(1000) as pool:
        found = pool.map(find, range(1000))
        all_here.wait(30.0)
        assert list(found) == [KEY] * 1000
    assert len(provider.fetches) == 2


def test_an_unknown_key_is_unknown_once_the_provider_has_had_its_say(
    keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """A look since its arrival that lacks it decides; within the floor the last look decides, if it succeeded."""
    assert _verdict(keys, "nobody") == "unknown"
    assert _verdict(keys, "somebody") == "unknown"
    assert len(provider.fetches) == 1


@pytest.mark.parametrize("warm", [False, True])
def test_keys_that_cannot_be_had_are_not_held_against_a_token(
    warm: bool, keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """While the provider is down an unknown key is not known to be bad, at once and within the floor."""
    if warm:
        keys.find("old")
    provider.before = provider.down
    clock.advance(FLOOR)
    for _ in range(3):
        assert _verdict(keys, "new") == "unavailable"
        clock.advance(1.0)


def test_the_refusal_says_when_the_next_look_is(keys: SigningKeys, provider: Provider, clock: VirtualClock) -> None:
    """`retry_after` is what is left of the floor."""
    provider.before = provider.down
    with pytest.raises(KeysUnavailable):
        keys.find("old")
    clock.advance(2.0)
    with pytest.raises(KeysUnavailable) as refusal:
        keys.find("old")
    assert refusal.value.retry_after == pytest.approx(FLOOR - 2.0)


def test_a_look_that_hangs_is_waited_for_once_not_by_each(
    keys: SigningKeys, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers with unknown keys cannot keep threads waiting: the patience is that of the look, not of each caller."""
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module, "PATIENCE_OF_A_CROWD", 0.1)
    never = threading.Event()
    provider.before = never.wait
    try:
        start = time.perf_counter()
        assert [_verdict(keys, f"made-up-{n}") for n in range(50)] == ["unavailable"] * 50
        assert 0.1 <= time.perf_counter() - start < 2.5
    finally:
        never.set()
        _settled(keys)


def test_a_crowd_is_less_patient_than_the_first_few(
    keys: SigningKeys, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many that wait for one slow look, four get what it brings and the others are sent away at once."""
    monkeypatch.setattr(module, "PATIENCE", 30.0)
    monkeypatch.setattr(module, "PATIENCE_OF_A_CROWD", 0.0)
    slow = threading.Event()
    provider.before = slow.wait
    verdicts: list[str] = []
    threads = [threading.Thread(target=lambda: verdicts.append(_verdict(keys, "old"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    while len(verdicts) < 16:
        threading.Event().wait(0.001)
    slow.set()
    for thread in threads:
        thread.join()
    assert (verdicts.count("unavailable"), verdicts.count("known")) == (16, 4)


def test_no_thread_to_be_had_is_no_verdict(keys: SigningKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine out of threads makes keys unavailable, and the next look works."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert _verdict(keys, "old") == "unavailable"
    keys._clock.sleep(FLOOR)
    assert _verdict(keys, "old") == "known"


def test_many_threads_see_one_truth_through_rotations(
    keys: SigningKeys, provider: Provider, clock: VirtualClock
) -> None:
    """While keys rotate under load, a published key is never called unknown for longer than the floor."""
    stop = threading.Event()
    wrong: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            if _verdict(keys, "stays") != "known":
                wrong.append("stays")

    provider.kids = ["stays", "0"]
    assert _verdict(keys, "stays") == "known"
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 7):
        provider.kids = ["stays", str(number)]
        clock.advance(FLOOR)
        _settled(keys)
        assert _verdict(keys, str(number)) == "known"
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
