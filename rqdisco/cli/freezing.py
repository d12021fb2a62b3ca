"""The commands freeze and thaw."""

from __future__ import annotations

from rqdisco.cli.app import DONE, App, UsageError, operator_failure, retry
from rqdisco.cli.participants import PATIENCE_SECONDS
from rqdisco.client import Refused

_THAW_WARNING = (
    "a thawed daemon tells nodes to bootstrap again: if its IDs were moved to another service that is in use, two"
    " clusters form under one ID"
)


async def freeze(app: App, reason: str) -> int:
    """Freeze the daemon."""
    try:
        await retry(app, lambda: app.client.freeze(reason), PATIENCE_SECONDS)
    except Refused as error:
        raise operator_failure(error) from None
    app.output.message(f"{app.url} is frozen: it answers every change with 503; `rqdisco thaw` ends that")
    return DONE


async def thaw(app: App, *, yes: bool) -> int:
    """Thaw the daemon."""
    if not yes:
        raise UsageError(f"{_THAW_WARNING}; confirm with --yes")
    try:
        await app.client.thaw()
    except Refused as error:
        raise operator_failure(error) from None
    app.output.message(f"{app.url} is thawed")
    return DONE
