"""The keys that peers share: the first one signs, all of them are accepted, so that they can be
changed one by one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

_LEAST_BYTES = 16
_SEAL_BYTES = 16


class BadKeys(ValueError):
    """A key file that cannot be used; the text says why and never what is in it."""


class PeerKey(msgspec.Struct, frozen=True):
    """A shared secret. `name` tells keys apart without telling anything of them."""

    name: str
    secret: bytes

    def seal(self, *parts: bytes) -> str:
        """A code that only who has the key can make: HMAC-SHA-256 over the parts, each with its
        length, of which half is kept (RFC 2104 section 5).
        """
        return base64.urlsafe_b64encode(self._code(*parts)[:_SEAL_BYTES]).rstrip(b"=").decode()

    def is_sealed(self, seal: str, *parts: bytes) -> bool:
        """Whether `seal` is that code, in a time that does not depend on it."""
        return hmac.compare_digest(seal.encode("utf-8", "replace"), self.seal(*parts).encode())

    def derive(self, *parts: bytes) -> PeerKey:
        """A key for one session."""
        return PeerKey(self.name, self._code(*parts))

    def _code(self, *parts: bytes) -> bytes:
        code = hmac.new(self.secret, digestmod=hashlib.sha256)
        for part in parts:
            code.update(len(part).to_bytes(8, "big"))
            code.update(part)
        return code.digest()


class KeyRing(msgspec.Struct, frozen=True):
    """The keys of a file, in its order."""

    keys: tuple[PeerKey, ...]

    @property
    def signing(self) -> PeerKey:
        """The one to sign with."""
        return self.keys[0]

    def find(self, name: str) -> PeerKey | None:
        """The key of that name."""
        for key in self.keys:
            if key.name == name:
                return key
        return None


def parse_keys(content: bytes) -> KeyRing:
    """The keys of a file: one a line in base64 or hex, of 16 bytes or more; `#` begins a comment.
    Raises BadKeys.
    """
    keys = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            keys.append(_key(text, number))
    if not keys:
        raise BadKeys("there is no key in it; `openssl rand -base64 32` makes one")
    if len({key.name for key in keys}) < len(keys):
        raise BadKeys("the same key is in it twice")
    return KeyRing(tuple(keys))


def _key(text: str, number: int) -> PeerKey:
    secret = _decoded(text)
    if secret is None:
        raise BadKeys(f"line {number}: neither base64 nor hex")
    if len(secret) < _LEAST_BYTES:
        raise BadKeys(f"line {number}: a key of {len(secret)} bytes is too short, {_LEAST_BYTES} are the least")
    return PeerKey(hashlib.sha256(b"rqdisco key name" + secret).hexdigest()[:8], secret)


def _decoded(text: str) -> bytes | None:
    for decode in (bytes.fromhex, lambda each: base64.b64decode(each, validate=True)):
        try:
            return decode(text)
        except (ValueError, binascii.Error):
            continue
    return None
