"""Signing keys: one in use, the next already published.

That is what makes a planned rotation quiet: by the time the next key signs anything, every verifier has had it in its
key set for weeks. An emergency rotation is the opposite. The key in use has leaked, so it leaves the set at once, and
the key that replaces it is one that nobody has seen.
"""

from __future__ import annotations

import secrets
import threading

from joserfc.jwk import RSAKey

KEEP_RETIRED = 1
"""How many retired keys stay published, so that tokens signed just before a rotation still verify."""


def new_key() -> RSAKey:
    """A signing key with a key id in the provider's form."""
    return RSAKey.generate_key(2048, {"kid": secrets.token_urlsafe(16), "use": "sig", "alg": "RS256"}, private=True)


class KeyRing:
    """The keys of the tenant. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current, self._next = new_key(), new_key()
        self._retired: list[RSAKey] = []

    @property
    def current(self) -> RSAKey:
        """The key that signs."""
        return self._current

    def rotate(self) -> None:
        """Retire the key in use and sign with the next one. What was published stays published."""
        successor = new_key()
        with self._lock:
            self._retired = [self._current, *self._retired][:KEEP_RETIRED]
            self._current, self._next = self._next, successor

    def rotate_in_emergency(self) -> None:
        """Take back every key and sign with one that nobody has seen."""
        current, successor = new_key(), new_key()
        with self._lock:
            self._current, self._next, self._retired = current, successor, []

    def published(self) -> list[RSAKey]:
        """The public key set, the key in use first."""
        with self._lock:
            return [self._current, self._next, *self._retired]

    def jwks(self) -> dict[str, object]:
        """The document at `/.well-known/jwks.json`."""
        return {"keys": [key.as_dict(private=False) for key in self.published()]}
