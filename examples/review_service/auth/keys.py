"""The provider's public keys: how a service keeps them, and when it asks for them again.

Four promises pull in different directions, and one rule for asking keeps them all.

- A known key is known at once. It never waits for the network, so a provider that hangs slows nobody down: keys that
  are due for a look are used as they are while one thread in the background looks (*stale while revalidate*).
- Keys stay good while the provider is away, for a day. Only an answer replaces them, never the lack of one.
- A key brought in in an emergency is known within the floor: `FLOOR` seconds after one look the next may begin. A key
  taken back is dropped by the same look, or, if nobody comes with a new one, by the look that is due after `FRESH`.
- Whatever strangers send, the provider is asked at most twice in ten seconds. An unknown `kid` asks for a look, but
  it gets the one under way, or none before the floor is over. A thousand requests at a rotation make one.

So a look is never repeated at once when it fails: the floor *is* its backoff.

What an unknown `kid` means depends on what is known. If the last look succeeded, the provider has had its say, and the
token is bad (401). If it failed, or has not come back, nobody can tell (503): a key that cannot be had is never held
against a token. Nobody waits for a look that is older than `PATIENCE`, and a crowd gives up sooner still: otherwise
strangers with unknown keys could keep every thread of the service waiting for a provider that hangs.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from examples.review_service import journal
from examples.review_service.auth.errors import KeysUnavailable, UnknownKey
from examples.review_service.auth.jwks import Keys
from resilience import Clock, Throttle

FLOOR = 6.0
"""Seconds from the beginning of one look at the key set to the next."""
FRESH = 15.0
"""Seconds after which known keys are due for a look: what the provider itself says in `Cache-Control: max-age`."""
KEEP = 86_400.0
"""Seconds for which keys stay good without an answer from the provider."""
PATIENCE, PATIENCE_OF_A_CROWD = 1.0, 0.3
"""Seconds from the beginning of a look for which unknown keys wait for it: real ones, whatever `clock` says."""
FEW = 4
"""How many wait with patience; whoever comes after them is the crowd."""


class _Look:
    """A look under way."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._back = threading.Event()
        self._waiting = itertools.count()

    def wait(self) -> bool:
        """Whether it is back, now or before the patience is over."""
        patience = PATIENCE if next(self._waiting) < FEW else PATIENCE_OF_A_CROWD
        return self._back.wait(max(0.0, self._began + patience - time.monotonic()))

    def is_back(self) -> None:
        """Wake those who wait."""
        self._back.set()


class SigningKeys:
    """The keys that the provider signs with. Safe from any thread; starts one daemon thread for each look.

    Args:
        fetch: gets the keys, or raises.
        looks: a throttle of one look in `FLOOR` seconds.
        clock: tells how old the keys are.
    """

    def __init__(self, fetch: Callable[[], Keys], looks: Throttle, clock: Clock) -> None:
        self._fetch = fetch
        self._looks = looks
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Keys = {}
        self._as_of: float | None = None
        self._last_failed = False
        self._under_way: _Look | None = None

    def find(self, kid: str) -> RSAPublicKey:
        """The key with this id.

        Raises:
            UnknownKey: the provider does not publish it.
            KeysUnavailable: the provider cannot be asked.
        """
        key, age = self._known(kid)
        if key is not None:
            if age >= FRESH:
                self._look()
            return key
        look = self._look()
        back = look is None or look.wait()
        key, _ = self._known(kid)
        if key is not None:
            return key
        if back and self._as_of is not None and not self._last_failed:
            raise UnknownKey(kid)
        raise KeysUnavailable(self._looks.peek().retry_after if back else PATIENCE)

    def _known(self, kid: str) -> tuple[RSAPublicKey | None, float]:
        """The key, if it is known and not too old to be used, and how old the key set is."""
        with self._lock:
            keys, as_of = self._keys, self._as_of
        if as_of is None:
            return None, 0.0
        age = self._clock.now() - as_of
        return (keys.get(kid) if age <= KEEP else None), age

    def _look(self) -> _Look | None:
        """The look under way, if need be a new one; None within the floor."""
        with self._lock:
            if self._under_way is not None or not self._looks.try_acquire():
                return self._under_way
            self._under_way = look = _Look()
        try:
            threading.Thread(target=self._fetch_into_place, args=(look,), name="signing-keys", daemon=True).start()
        except RuntimeError as no_thread:
            self._settle(look, None, 0.0, no_thread)
        return look

    def _fetch_into_place(self, look: _Look) -> None:
        began = self._clock.now()
        try:
            keys, error = self._fetch(), None
        except Exception as failure:
            keys, error = None, failure
        self._settle(look, keys, began, error)

    def _settle(self, look: _Look, keys: Keys | None, began: float, error: Exception | None) -> None:
        with self._lock:
            if keys is not None:
                self._keys, self._as_of = keys, began
            self._last_failed = keys is None
            self._under_way = None
        look.is_back()
        if error is not None:
            journal.note("keys_not_fetched", logging.WARNING, error=type(error).__name__)
