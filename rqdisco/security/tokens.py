"""Authorization by tokens: their scopes, their digests, and the format of the file that stores
these.

A token has 160 random bits, so one round of SHA-256 is enough: no attacker can try them all,
however cheap a guess is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import msgspec

from rqdisco.core.errors import NotAllowed, NotAuthenticated
from rqdisco.core.ids import is_id

Right = Literal["known", "mint", "read", "write", "admin"]
SCOPES = ("mint", "read", "write", "admin")
TOKEN_BYTES = 20
HEADER = "# Digests of tokens, not the tokens themselves. `rqdisco token` edits this file: NAME SCOPES DIGEST [id=ID]\n"

_OF_AN_ID = frozenset({"read", "write"})
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_PREFIX = "rqd_"

assert {"known", *SCOPES} == set(get_args(Right))


class BadTokens(ValueError):
    """A token or a token file is invalid; the text says why."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A stored token: its name, its SHA-256 digest, its scopes, and the one ID it is
    bound to, if any.
    """

    name: str
    digest: bytes
    scopes: frozenset[str]
    id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Report whether it has every right."""
        return "admin" in self.scopes

    @property
    def listed_scopes(self) -> str:
        """Return its scopes as the file lists them."""
        return ",".join(scope for scope in SCOPES if scope in self.scopes)

    def may(self, right: Right, discovery_id: str | None = None) -> bool:
        """Report whether it has a right, for that ID if the request is about one."""
        if self.is_admin or right == "known":
            return True
        return right in self.scopes and (self.id is None or self.id == discovery_id)


class TokenRing:
    """The tokens of a file, in the file's order."""

    def __init__(self, tokens: Sequence[Token] = ()) -> None:
        self.tokens = tuple(tokens)
        self._by_first: dict[bytes, list[Token]] = {}
        for token in self.tokens:
            self._by_first.setdefault(token.digest[:8], []).append(token)

    def find(self, secret: bytes) -> Token | None:
        """Return the token that `secret` belongs to, None if there is none.

        Its duration depends only on digests, and an attacker cannot choose how the digest of a
        guess begins.
        """
        digest = hashlib.sha256(secret).digest()
        match = None
        for token in self._by_first.get(digest[:8], ()):
            if hmac.compare_digest(token.digest, digest):
                match = token
        return match


class TokenChange(msgspec.Struct, frozen=True):
    """A token that was added, revoked or changed: as it is now, or as it was before it was revoked.
    `of` names the fields that changed.
    """

    what: Literal["added", "revoked", "changed"]
    token: Token
    of: tuple[str, ...] = ()


def changes(before: TokenRing, after: TokenRing) -> list[TokenChange]:
    """Return the differences between two rings. Tokens are compared by name."""
    old = {token.name: token for token in before.tokens}
    new = {token.name: token for token in after.tokens}
    changed = [TokenChange("revoked", token) for name, token in old.items() if name not in new]
    for name, token in new.items():
        if name not in old:
            changed.append(TokenChange("added", token))
        elif token != old[name]:
            changed.append(TokenChange("changed", token, _changed_fields(old[name], token)))
    return changed


def _changed_fields(old: Token, new: Token) -> tuple[str, ...]:
    compared = (("scopes", old.scopes, new.scopes), ("id", old.id, new.id), ("secret", old.digest, new.digest))
    return tuple(what for what, one, other in compared if one != other)


class Access:
    """Authorizes secrets against a ring of tokens, which a reload replaces."""

    def __init__(self, ring: TokenRing) -> None:
        self.ring = ring

    def replace(self, ring: TokenRing) -> None:
        """Authorize against `ring` from now on."""
        self.ring = ring

    def admit(self, secrets: Sequence[bytes], right: Right, discovery_id: str | None = None) -> Token:
        """Return the token of the first valid secret, which must have the right.

        Does not check whether the ID exists: an unauthorized caller gets the same answer for every
        ID, in the same time. Raises NotAuthenticated, NotAllowed.
        """
        for secret in secrets:
            token = self.ring.find(secret)
            if token is not None:
                if token.may(right, discovery_id):
                    return token
                raise NotAllowed(token.name, right, discovery_id)
        raise NotAuthenticated(was_given=bool(secrets))


def make_token(random: Callable[[int], bytes]) -> str:
    """Return a new token. It needs no quoting in URLs, shells and rqlited's configuration, and
    secret scanners can recognize its prefix.
    """
    return _PREFIX + base64.b32encode(random(TOKEN_BYTES)).decode().lower()


def describe(name: str, scopes: Sequence[str], secret: str, discovery_id: str | None = None) -> Token:
    """Return what to store of a token. Raises BadTokens."""
    if not _NAME.match(name):
        raise BadTokens(f"{name!r} is not a valid name: 1 to 64 letters, digits, dots, '-' and '_'")
    return Token(
        name=name,
        digest=hashlib.sha256(secret.encode()).digest(),
        scopes=_scopes(scopes, discovery_id),
        id=discovery_id,
    )


def parse_tokens(content: bytes) -> TokenRing:
    """Parse a token file: one token per line, `NAME SCOPES sha256:HEX [id=ID]`; `#` begins a
    comment. Raises BadTokens.
    """
    tokens = [token for _, token in _numbered(content)]
    for what, seen in (("name", [token.name for token in tokens]), ("digest", [token.digest for token in tokens])):
        if len(set(seen)) < len(seen):
            raise BadTokens(f"two tokens have the same {what}")
    return TokenRing(tokens)


def with_token(content: bytes, token: Token) -> bytes:
    """Return the file's content with one more token. Raises BadTokens."""
    before = content or HEADER.encode()
    after = before + (b"" if before.endswith(b"\n") else b"\n") + _line(token).encode()
    if any(known.name == token.name for known in parse_tokens(content).tokens):
        raise BadTokens(f"token {token.name} already exists")
    return after


def without_token(content: bytes, name: str) -> bytes:
    """Return the file's content without a token; everything else stays. Raises BadTokens."""
    numbers = {number for number, token in _numbered(content) if token.name == name}
    if not numbers:
        raise BadTokens(f"token {name} does not exist")
    lines = content.splitlines(keepends=True)
    return b"".join(line for number, line in enumerate(lines, 1) if number not in numbers)


def _numbered(content: bytes) -> list[tuple[int, Token]]:
    """Return the tokens, each with its line number."""
    tokens = []
    for number, line in enumerate(content.splitlines(), 1):
        words = line.decode("utf-8", "replace").partition("#")[0].split()
        if words:
            try:
                tokens.append((number, _parse_token(words)))
            except BadTokens as error:
                raise BadTokens(f"line {number}: {error}") from None
    return tokens


def _parse_token(words: list[str]) -> Token:
    if len(words) not in (3, 4):
        raise BadTokens("not NAME SCOPES sha256:HEX [id=ID]")
    name, scopes, digest, *rest = words
    match = _DIGEST.match(digest)
    # It may be the token itself by mistake, so the error does not repeat it.
    if match is None:
        raise BadTokens("the digest is not sha256: and 64 hexadecimal digits")
    if not _NAME.match(name):
        raise BadTokens("the name is not 1 to 64 letters, digits, dots, '-' and '_'")
    discovery_id = None
    if rest:
        key, _, discovery_id = rest[0].partition("=")
        if key != "id":
            raise BadTokens("only id=ID may follow the digest")
    return Token(
        name=name,
        digest=bytes.fromhex(match[1]),
        scopes=_scopes(scopes.split(","), discovery_id),
        id=discovery_id,
    )


def _scopes(names: Sequence[str], discovery_id: str | None) -> frozenset[str]:
    unknown = set(names) - set(SCOPES)
    if unknown or not names:
        raise BadTokens(f"scopes must be one or more of {', '.join(SCOPES)}, separated by commas")
    if discovery_id is not None:
        if not is_id(discovery_id):
            raise BadTokens("the value of id= is not a discovery ID")
        if not _OF_AN_ID.issuperset(names):
            raise BadTokens("mint and admin cannot be bound to an ID")
    return frozenset(names)


def _line(token: Token) -> str:
    bound = "" if token.id is None else f" id={token.id}"
    return f"{token.name} {token.listed_scopes} sha256:{token.digest.hex()}{bound}\n"
