"""Commands about the file of tokens: token new, list, revoke. They ask no service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rqdisco.cli.app import DONE, App, Failed
from rqdisco.core.errors import TokensUnusable
from rqdisco.security.token_file import edit_tokens, read_tokens
from rqdisco.security.tokens import SCOPES, BadTokens, describe, make_token, with_token, without_token

_READ_AGAIN = "a daemon that runs reads the file again at SIGHUP"


async def new(app: App, file: Path, name: str, scopes: Sequence[str], discovery_id: str | None) -> int:
    """Print a new token, once its digest is in the file."""
    secret = make_token(app.secret)
    try:
        token = describe(name, scopes, secret, discovery_id)
        edit_tokens(file, lambda content: with_token(content, token))
    except BadTokens as error:
        raise Failed(f"{file}: {error}") from None
    app.screen.line(secret)
    app.screen.say(f"this is all there is of it, {file} has its digest only; {_READ_AGAIN}")
    return DONE


async def show(app: App, file: Path) -> int:
    """Print what is known of all tokens."""
    try:
        ring = read_tokens(file)
    except TokensUnusable as error:
        raise Failed(str(error)) from None
    rows = [
        (token.name, ",".join(scope for scope in SCOPES if scope in token.scopes), token.id or "-")
        for token in ring.tokens
    ]
    app.screen.table(f"tokens of {file}", ("NAME", "SCOPES", "ID"), rows)
    return DONE


async def revoke(app: App, file: Path, name: str) -> int:
    """Take a token out of the file."""
    try:
        edit_tokens(file, lambda content: without_token(content, name))
    except BadTokens as error:
        raise Failed(f"{file}: {error}") from None
    app.screen.say(f"revoked {name}; {_READ_AGAIN}")
    return DONE
