"""The tokens of a running daemon, and their reload: when the file changes, and on SIGHUP."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rqdisco.core.errors import TokensUnusable
from rqdisco.security.file_modes import warn_of_loose_mode
from rqdisco.security.file_stamp import file_stamp
from rqdisco.security.token_file import read_tokens
from rqdisco.security.tokens import Access, TokenChange, changes
from rqdisco.telemetry.events import Event, Events

CHECK_SECONDS = 1.0

_log = Logger()


class ReloadingTokens:
    """The tokens of a file. The constructor raises TokensUnusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Before the file is read: a change in between is seen by the next check.
        self._loaded = self._seen = file_stamp(path)
        self.access = Access(read_tokens(path))
        self._warn()

    def reload(self, events: Events) -> None:
        """Read the file again, and publish what changed. If it cannot be used, the old tokens stay
        valid.
        """
        self._loaded = file_stamp(self._path)
        before = self.access.ring
        try:
            self.access.replace(read_tokens(self._path, again=True))
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

    def reload_if_changed(self, events: Events) -> None:
        """Reload a file that changed since it was read, but not since the last call: an editor may not
        be done yet.
        """
        stamp = file_stamp(self._path)
        is_at_rest, self._seen = stamp == self._seen, stamp
        if is_at_rest and stamp != self._loaded:
            self.reload(events)

    def _warn(self) -> None:
        warn_of_loose_mode(self._path, "tokens")
        if not self.access.ring.tokens:
            _log.warn(
                "the token file is empty, so every request is refused; create one with `rqdisco token new`",
                file=str(self._path),
            )


class TokenFileMonitor(Service):
    """Checks every second whether the file of `tokens` changed."""

    def __init__(self, clock: IReactorTime, tokens: ReloadingTokens, events: Events) -> None:
        self._checking = LoopingCall(tokens.reload_if_changed, events)
        self._checking.clock = clock

    def startService(self) -> None:
        super().startService()
        self._checking.start(CHECK_SECONDS, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._checking.running:
            self._checking.stop()


def _event(change: TokenChange) -> Event:
    token = change.token
    more = {"name": token.name, "scopes": token.listed_scopes}
    if change.of:
        more["changed"] = ",".join(change.of)
    return Event(kind="token", outcome=change.what, id=token.id or "", more=more, logged=False)
