"""Who may do what: tokens, of which only digests are kept, the scopes they have, and the file they
are kept in.

A token is 160 random bits, so one round of SHA-256 is enough: nobody can try all of them, whatever
a try costs.
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
    """Tokens that cannot be used; the text says why."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token: what it is called, the SHA-256 of it, its scopes, and the one ID it
    is bound to.
    """

    name: str
    digest: bytes
    scopes: frozenset[str]
    id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether its owner may do everything."""
        return "admin" in self.scopes

    @property
    def listed_scopes(self) -> str:
        """Its scopes, as they stand in a file."""
        return ",".join(scope for scope in SCOPES if scope in self.scopes)

    def may(self, right: Right, discovery_id: str | None = None) -> bool:
        """Whether its owner may do this, with that ID if it is about one."""
        if self.is_admin or right == "known":
            return True
        return right in self.scopes and (self.id is None or self.id == discovery_id)


class TokenRing:
    """The tokens of a file, in its order."""

    def __init__(self, tokens: Sequence[Token] = ()) -> None:
        self.tokens = tuple(tokens)
        self._by_first: dict[bytes, list[Token]] = {}
        for token in self.tokens:
            self._by_first.setdefault(token.digest[:8], []).append(token)

    def find(self, secret: bytes) -> Token | None:
        """The token that `secret` is, None if it is none.

        The time this takes tells of digests only, and nobody can choose what his guesses' digests
        begin with.
        """
        digest = hashlib.sha256(secret).digest()
        found = None
        for token in self._by_first.get(digest[:8], ()):
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


class TokenChange(msgspec.Struct, frozen=True):
    """What became of a token, as it is now, or was if it is gone; `of` says what is different of
    one that changed.
    """

    what: Literal["added", "revoked", "changed"]
    token: Token
    of: tuple[str, ...] = ()


def changes(before: TokenRing, after: TokenRing) -> list[TokenChange]:
    """What became of tokens, which are known by their names."""
    old = {token.name: token for token in before.tokens}
    new = {token.name: token for token in after.tokens}
    found = [TokenChange("revoked", token) for name, token in old.items() if name not in new]
    for name, token in new.items():
        if name not in old:
            found.append(TokenChange("added", token))
        elif token != old[name]:
            found.append(TokenChange("changed", token, _different(old[name], token)))
    return found


def _different(old: Token, new: Token) -> tuple[str, ...]:
    compared = (("scopes", old.scopes, new.scopes), ("id", old.id, new.id), ("secret", old.digest, new.digest))
    return tuple(what for what, one, other in compared if one != other)


class Access:
    """Says who may do what; `ring` may be another one from one request to the next."""

    def __init__(self, ring: TokenRing) -> None:
        self.ring = ring

    def admit(self, secrets: Sequence[bytes], right: Right, discovery_id: str | None = None) -> Token:
        """The first token there is among what a caller gave, which must have the right to this.

        It is not looked whether there is such an ID: who may not know is told the same of all IDs,
        in the same time. Raises NotAuthenticated, NotAllowed.
        """
        for secret in secrets:
            token = self.ring.find(secret)
            if token is not None:
                if token.may(right, discovery_id):
                    return token
                raise NotAllowed(token.name, right, discovery_id)
        raise NotAuthenticated(was_given=bool(secrets))


def make_token(random: Callable[[int], bytes]) -> str:
    """A new token. It can stand in a URL, a shell and rqlited's configuration as it is, and
    scanners can know it.
    """
    return _PREFIX + base64.b32encode(random(TOKEN_BYTES)).decode().lower()


def describe(name: str, scopes: Sequence[str], secret: str, discovery_id: str | None = None) -> Token:
    """What is to be kept of a token. Raises BadTokens."""
    if not _NAME.match(name):
        raise BadTokens(f"{name!r} is no name: up to 64 letters, digits, dots, '-' and '_'")
    return Token(
        name=name,
        digest=hashlib.sha256(secret.encode()).digest(),
        scopes=_scopes(scopes, discovery_id),
        id=discovery_id,
    )


def parse_tokens(content: bytes) -> TokenRing:
    """The tokens of a file: one a line, `NAME SCOPES sha256:HEX [id=ID]`; `#` begins a comment.
    Raises BadTokens.
    """
    tokens = [token for _, token in _numbered(content)]
    for what, seen in (("name", [token.name for token in tokens]), ("digest", [token.digest for token in tokens])):
        if len(set(seen)) < len(seen):
            raise BadTokens(f"two tokens have the same {what}")
    return TokenRing(tokens)


def with_token(content: bytes, token: Token) -> bytes:
    """The file with one more token. Raises BadTokens."""
    before = content or HEADER.encode()
    after = before + (b"" if before.endswith(b"\n") else b"\n") + _line(token).encode()
    if any(known.name == token.name for known in parse_tokens(content).tokens):
        raise BadTokens(f"there is a token {token.name} already")
    return after


def without_token(content: bytes, name: str) -> bytes:
    """The file without a token; all else stays. Raises BadTokens."""
    numbers = {number for number, token in _numbered(content) if token.name == name}
    if not numbers:
        raise BadTokens(f"there is no token {name}")
    lines = content.splitlines(keepends=True)
    return b"".join(line for number, line in enumerate(lines, 1) if number not in numbers)


def _numbered(content: bytes) -> list[tuple[int, Token]]:
    """The tokens, each with the number of its line."""
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        words = line.decode("utf-8", "replace").partition("#")[0].split()
        if words:
            try:
                found.append((number, _parsed(words)))
            except BadTokens as error:
                raise BadTokens(f"line {number}: {error}") from None
    return found


def _parsed(words: list[str]) -> Token:
    if len(words) not in (3, 4):
        raise BadTokens("not NAME SCOPES sha256:HEX [id=ID]")
    name, scopes, digest, *rest = words
    match = _DIGEST.match(digest)
    # What stands there may be the token itself, so it is not repeated.
    if match is None:
        raise BadTokens("the digest is not sha256: and 64 hexadecimal digits")
    if not _NAME.match(name):
        raise BadTokens("its name is not 1 to 64 letters, digits, dots, '-' and '_'")
    discovery_id = None
    if rest:
        key, _, discovery_id = rest[0].partition("=")
        if key != "id":
            raise BadTokens("behind the digest only id=ID may follow")
    return Token(
        name=name,
        digest=bytes.fromhex(match[1]),
        scopes=_scopes(scopes.split(","), discovery_id),
        id=discovery_id,
    )


def _scopes(names: Sequence[str], discovery_id: str | None) -> frozenset[str]:
    unknown = set(names) - set(SCOPES)
    if unknown or not names:
        raise BadTokens(f"the scopes are {', '.join(SCOPES)}, and several are separated by commas")
    if discovery_id is not None:
        if not is_id(discovery_id):
            raise BadTokens("what it is bound to is no discovery ID")
        if not _OF_AN_ID.issuperset(names):
            raise BadTokens("mint and admin cannot be bound to an ID")
    return frozenset(names)


def _line(token: Token) -> str:
    bound = "" if token.id is None else f" id={token.id}"
    return f"{token.name} {token.listed_scopes} sha256:{token.digest.hex()}{bound}\n"
