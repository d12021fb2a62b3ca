"""The tokens of a running daemon: read at its start and again when it is told to, and what changed
by that.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from twisted.logger import Logger

from rqdisco.core.errors import TokensUnusable
from rqdisco.security.file_modes import warn_of_others
from rqdisco.security.token_file import read_tokens
from rqdisco.security.tokens import Access, TokenChange, changes
from rqdisco.telemetry.events import Event, Events

_log = Logger()


class ReloadingTokens:
    """The tokens of a file. Raises TokensUnusable, but only while they are read for the first
    time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.access = Access(read_tokens(path))
        self._warn()

    def reread(self, events: Events) -> None:
        """Read the file again; if it cannot be used, what was read before stays. Either is told to
        `events`.
        """
        before = self.access.ring
        try:
            self.access.ring = read_tokens(self._path)
        except TokensUnusable as error:
            _log.error("tokens not read again, the old ones stay: {why}", why=str(error))
            events.tell(Event(kind="token", outcome="unusable", why=str(error), logged=False))
            return
        changed = changes(before, self.access.ring)
        counts = Counter(change.what for change in changed)
        _log.info(
            "tokens read again",
            count=len(self.access.ring.tokens),
            added=counts["added"],
            revoked=counts["revoked"],
            changed=counts["changed"],
        )
        for change in changed:
            events.tell(_event(change))
        self._warn()

    def _warn(self) -> None:
        warn_of_others(self._path, "tokens")
        if not self.access.ring.tokens:
            _log.warn("there are no tokens, so nobody is served: `rqdisco token new` makes one", file=str(self._path))


def _event(change: TokenChange) -> Event:
    token = change.token
    more = {"name": token.name, "scopes": token.listed_scopes}
    if change.of:
        more["changed"] = ",".join(change.of)
    return Event(kind="token", outcome=change.what, id=token.id or "", more=more, logged=False)
