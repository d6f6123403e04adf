"""From a key set document to keys that check signatures. What is not such a key is left out, not trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from examples.review_service.auth.errors import ProviderUnavailable

MOST_KEYS = 32
FEWEST_BITS = 2048
LONGEST_KID = 256

Keys = Mapping[str, RSAPublicKey]
"""Keys by their `kid`."""


def read_keys(document: Mapping[str, Any]) -> Keys:
    """The signature keys of a JWKS document.

    Raises:
        ProviderUnavailable: there is none in it. An empty set would declare every token forged, so it is no answer.
    """
    entries: Any = document.get("keys")
    keys: dict[str, RSAPublicKey] = {}
    for entry in entries[:MOST_KEYS] if isinstance(entries, list) else ():
        key = _read(entry) if isinstance(entry, dict) else None
        if key is not None:
            keys.setdefault(entry["kid"], key)
    if not keys:
        raise ProviderUnavailable("a key set without a key")
    return keys


def _read(entry: dict[str, Any]) -> RSAPublicKey | None:
    kid = entry.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KID:
        return None
    if entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
        return None
    try:
        key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": entry["n"], "e": entry["e"]})
    except (InvalidKeyError, KeyError, TypeError, ValueError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= FEWEST_BITS else None
