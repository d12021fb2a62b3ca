"""The commands `rqdisco token new`, `list` and `revoke`. They edit or read a daemon's token file,
and do not contact the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rqdisco.cli.app import DONE, App, CommandFailed
from rqdisco.core.errors import TokensUnusable
from rqdisco.security.token_file import edit_tokens, read_tokens
from rqdisco.security.tokens import BadTokens, describe, make_token, with_token, without_token

_RELOAD = "a running daemon reads the file again within seconds"


async def new(app: App, file: Path, name: str, scopes: Sequence[str], discovery_id: str | None) -> int:
    """Print a new token after adding its digest to the file."""
    secret = make_token(app.secret)
    try:
        token = describe(name, scopes, secret, discovery_id)
        edit_tokens(file, lambda content: with_token(content, token))
    except BadTokens as error:
        raise CommandFailed(f"{file}: {error}") from None
    app.output.line(secret)
    app.output.message(f"save the token, {file} only stores its digest; {_RELOAD}")
    return DONE


async def show(app: App, file: Path) -> int:
    """Print the name, scopes and ID of every token."""
    try:
        ring = read_tokens(file)
    except TokensUnusable as error:
        raise CommandFailed(str(error)) from None
    rows = [(token.name, token.listed_scopes, token.id or "-") for token in ring.tokens]
    app.output.table(f"tokens of {file}", ("NAME", "SCOPES", "ID"), rows)
    return DONE


async def revoke(app: App, file: Path, name: str) -> int:
    """Remove a token from the file."""
    try:
        edit_tokens(file, lambda content: without_token(content, name))
    except BadTokens as error:
        raise CommandFailed(f"{file}: {error}") from None
    app.output.message(f"revoked {name}; {_RELOAD}")
    return DONE
