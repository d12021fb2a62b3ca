"""The tokens of a running daemon, and their reload on SIGHUP."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from twisted.logger import Logger

from rqdisco.core.errors import TokensUnusable
from rqdisco.security.file_modes import warn_of_loose_mode
from rqdisco.security.token_file import read_tokens
from rqdisco.security.tokens import Access, TokenChange, changes
from rqdisco.telemetry.events import Event, Events

_log = Logger()


class ReloadingTokens:
    """The tokens of a file. The constructor raises TokensUnusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.access = Access(read_tokens(path))
        self._warn()

    def reload(self, events: Events) -> None:
        """Read the file again, and publish what changed. If it cannot be used, the old tokens stay
        valid.
        """
        before = self.access.ring
        try:
            self.access.replace(read_tokens(self._path))
        except TokensUnusable as error:
            _log.error("tokens not reloaded, the old ones stay in use: {why}", why=str(error))
            events.publish(Event(kind="token", outcome="unusable", why=str(error), logged=False))
            return
        changed = changes(before, self.access.ring)
        counts = Counter(change.what for change in changed)
        _log.info(
            "tokens reloaded",
            count=len(self.access.ring.tokens),
            added=counts["added"],
            revoked=counts["revoked"],
            changed=counts["changed"],
        )
        for change in changed:
            events.publish(_event(change))
        self._warn()

    def _warn(self) -> None:
        warn_of_loose_mode(self._path, "tokens")
        if not self.access.ring.tokens:
            _log.warn(
                "the token file is empty, so every request is refused; create one with `rqdisco token new`",
                file=str(self._path),
            )


def _event(change: TokenChange) -> Event:
    token = change.token
    more = {"name": token.name, "scopes": token.listed_scopes}
    if change.of:
        more["changed"] = ",".join(change.of)
    return Event(kind="token", outcome=change.what, id=token.id or "", more=more, logged=False)
