"""The commands `rqdisco token new`, `list` and `revoke`. They edit or read a daemon's token file,
and do not contact the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rqdisco.cli.app import DONE, App, CommandFailed
from rqdisco.core.errors import TokensUnusable
from rqdisco.security.token_file import edit_tokens, read_tokens
from rqdisco.security.tokens import BadTokens, Token, describe, make_token, with_token, without_token

_RELOAD = "a running daemon reads the file again within seconds"


async def new(
    app: App, file: Path, name: str, scopes: Sequence[str], discovery_id: str | None, *, as_json: bool
) -> int:
    """Print a new token after adding its digest to the file."""
    secret = make_token(app.secret)
    try:
        token = describe(name, scopes, secret, discovery_id)
        edit_tokens(file, lambda content: with_token(content, token))
    except BadTokens as error:
        raise CommandFailed(f"{file}: {error}") from None
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from None
    if as_json:
        app.output.document({**_document(token), "token": secret})
    else:
        app.output.line(secret)
    scope = token.listed_scopes if token.id is None else f"{token.listed_scopes} for {token.id}"
    app.output.message(f"save this token, {name} ({scope}): {file} stores only its digest; {_RELOAD}")
    return DONE


async def show(app: App, file: Path, *, as_json: bool) -> int:
    """Print the name, scopes and ID of every token."""
    try:
        ring = read_tokens(file)
    except TokensUnusable as error:
        raise CommandFailed(str(error)) from None
    if as_json:
        app.output.document([_document(token) for token in ring.tokens])
        return DONE
    rows = [(token.name, token.listed_scopes, token.id or "-") for token in ring.tokens]
    app.output.table(f"tokens of {file}", ("NAME", "SCOPES", "ID"), rows)
    return DONE


def _document(token: Token) -> dict[str, object]:
    return {"name": token.name, "scopes": token.listed_scopes.split(","), "id": token.id}


async def revoke(app: App, file: Path, name: str) -> int:
    """Remove a token from the file."""
    try:
        edit_tokens(file, lambda content: without_token(content, name))
    except BadTokens as error:
        raise CommandFailed(f"{file}: {error}") from None
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from None
    app.output.message(f"revoked {name}; {_RELOAD}")
    return DONE
