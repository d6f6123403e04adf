"""Tokens written by hand, so that they can be wrong in every way. Nothing of a JOSE library is used."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tests.examples.conftest import Provider

Claims = dict[str, Any]


def b64(data: bytes | str) -> str:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


class Forge:
    """Has everything that a token is made of: the provider's own key, and keys of a stranger."""

    stranger = rsa.generate_private_key(65537, 2048)

    def __init__(self, provider: Provider, audience: str) -> None:
        self.provider = provider
        self.kid = str(provider.mint.keys.current.kid)
        private = provider.mint.keys.current.as_pem(private=True)
        key = serialization.load_pem_private_key(private, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(key, rsa.RSAPrivateKey)
        self.key = key
        self.audience = audience

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public_der(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def claims(self, **changes: Any) -> Claims:
        """Good claims, with changes; `...` removes one."""
        now = int(time.time())
        claims = {
            "iss": self.provider.issuer,
            "sub": "auth0|alice",
            "aud": self.audience,
            "iat": now,
            "exp": now + 600,
            "azp": "client",
            "scope": "read:reviews write:reviews",
        } | changes
        return {name: value for name, value in claims.items() if value is not ...}

    def header(self, **changes: Any) -> Claims:
        """A good header, with changes; `...` removes one."""
        header = {"alg": "RS256", "typ": "JWT", "kid": self.kid} | changes
        return {name: value for name, value in header.items() if value is not ...}

    def rs256(self, message: bytes, key: rsa.RSAPrivateKey | None = None) -> bytes:
        return (key or self.key).sign(message, padding.PKCS1v15(), hashes.SHA256())

    def put_together(self, header: Any, claims: Any, sign: Callable[[bytes], bytes], *, raw: bool = False) -> str:
        """A token of these parts; `raw` takes them as text instead of as JSON to be."""
        parts = [part if raw else json.dumps(part) for part in (header, claims)]
        message = ".".join(map(b64, parts))
        return f"{message}.{b64(sign(message.encode()))}"

    def signed(self, header: Claims | None = None, **claims: Any) -> str:
        """A token with the provider's own, right signature."""
        return self.put_together(header or self.header(), self.claims(**claims), self.rs256)

    def signed_text(self, claims: str) -> str:
        """Claims that are any text, with the provider's own, right signature."""
        return self.put_together(json.dumps(self.header()), claims, self.rs256, raw=True)

    def by_stranger(self, header: Claims | None = None) -> str:
        """A token with a stranger's signature."""
        return self.put_together(header or self.header(), self.claims(), lambda m: self.rs256(m, self.stranger))

    def keyed(self, alg: str, secret: bytes) -> str:
        """A token with a shared secret where a key pair is meant."""
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
        return self.put_together(self.header(alg=alg), self.claims(), lambda m: hmac.new(secret, m, digest).digest())

    def other_rsa(self, alg: str) -> str:
        """The provider's own key, used in a way that is not asked for."""
        digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[alg[2:]]
        way = padding.PSS(padding.MGF1(digest), 32) if alg.startswith("PS") else padding.PKCS1v15()
        return self.put_together(self.header(alg=alg), self.claims(), lambda m: self.key.sign(m, way, digest))

    def elliptic(self) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        return self.put_together(
            self.header(alg="ES256"), self.claims(), lambda m: key.sign(m, ec.ECDSA(hashes.SHA256()))
        )

    def edwards(self) -> str:
        return self.put_together(self.header(alg="EdDSA"), self.claims(), ed25519.Ed25519PrivateKey.generate().sign)

    def unsigned(self, alg: Any, signature: bytes = b"") -> str:
        return self.put_together(self.header(alg=alg), self.claims(), lambda _: signature)
