"""The keys that peers share: the first signs, all are accepted, so keys can be rotated one by
one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

_MIN_BYTES = 16
_SEAL_BYTES = 16


class BadKeys(ValueError):
    """An unusable key file; the text gives the reason, never the content."""


class PeerKey(msgspec.Struct, frozen=True):
    """A shared secret. `name` identifies a key without revealing anything of it."""

    name: str
    secret: bytes

    def seal(self, *parts: bytes) -> str:
        """Return HMAC-SHA-256 over the parts, each prefixed by its length, truncated to half (RFC
        2104 section 5).
        """
        return base64.urlsafe_b64encode(self._code(*parts)[:_SEAL_BYTES]).rstrip(b"=").decode()

    def is_sealed(self, seal: str, *parts: bytes) -> bool:
        """Report in constant time whether `seal` is the seal of the parts."""
        return hmac.compare_digest(seal.encode("utf-8", "replace"), self.seal(*parts).encode())

    def derive(self, *parts: bytes) -> PeerKey:
        """Derive the key of a session."""
        return PeerKey(self.name, self._code(*parts))

    def _code(self, *parts: bytes) -> bytes:
        content = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
        return hmac.digest(self.secret, content, "sha256")


class KeyRing(msgspec.Struct, frozen=True):
    """The keys of a file, in its order."""

    keys: tuple[PeerKey, ...]

    @property
    def signing(self) -> PeerKey:
        """The key to sign with."""
        return self.keys[0]

    def find(self, name: str) -> PeerKey | None:
        """Return a key by name."""
        for key in self.keys:
            if key.name == name:
                return key
        return None


def parse_keys(content: bytes) -> KeyRing:
    """Parse a key file: one key per line in base64 or hex, 16 bytes or more; `#` begins a comment.
    Raises BadKeys.
    """
    keys = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            keys.append(_key(text, number))
    if not keys:
        raise BadKeys("it contains no key; create one with `openssl rand -base64 32`")
    if len({key.name for key in keys}) < len(keys):
        raise BadKeys("it contains the same key twice")
    return KeyRing(tuple(keys))


def _key(text: str, number: int) -> PeerKey:
    secret = _decoded(text)
    if secret is None:
        raise BadKeys(f"line {number}: neither base64 nor hex")
    if len(secret) < _MIN_BYTES:
        raise BadKeys(f"line {number}: a key of {len(secret)} bytes is too short, the minimum is {_MIN_BYTES}")
    return PeerKey(hashlib.sha256(b"rqdisco key name" + secret).hexdigest()[:8], secret)


def _decoded(text: str) -> bytes | None:
    for decode in (bytes.fromhex, lambda each: base64.b64decode(each, validate=True)):
        try:
            return decode(text)
        except (ValueError, binascii.Error):
            continue
    return None
