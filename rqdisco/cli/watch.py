"""The command watch: what changes about an ID, as it changes."""

from __future__ import annotations

from contextlib import aclosing

from rqdisco.cli.app import App, pause
from rqdisco.client import Document, NotWatchable, Refused, Unavailable, Unreachable

_NOBODY = "leader -"
# Its node is shown to nobody before it reports itself.
_CLAIMED = "claimed -"


async def watch(app: App, discovery_id: str, interval: float) -> int:
    """Print each change, until interrupted or the ID is unknown.

    The service says when something changes; one that cannot, or has too many watchers, is asked
    every `interval` seconds. A service that is away is waited for.
    """
    shown = _Shown(app)
    is_followed = True
    while True:
        app.screen.check_reader()
        try:
            if is_followed:
                async with aclosing(app.client.watch(discovery_id)) as documents:
                    async for document in documents:
                        shown.show(document)
                        app.screen.check_reader()
            else:
                shown.show(await app.client.get(discovery_id))
        except NotWatchable:
            is_followed = False
            continue
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and error.status < 500 and error.status != 429:
                raise
            if is_followed and isinstance(error, Unavailable):
                await _look_once(app, discovery_id, shown)
            else:
                shown.is_away(error)
        await pause(app, interval)


async def _look_once(app: App, discovery_id: str, shown: _Shown) -> None:
    """Show what there is, where the service lets nobody watch for now."""
    try:
        shown.show(await app.client.get(discovery_id))
    except (Unreachable, Unavailable) as error:
        shown.is_away(error)


class _Shown:
    """What was printed already."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._nodes: tuple[str, ...] = ()
        self._leader = _NOBODY
        self._is_away = False

    def show(self, document: Document) -> None:
        """Print what is new."""
        screen = self._app.screen
        if self._is_away:
            screen.say(f"{self._app.url} is back")
            self._is_away = False
        leader = _leader(document)
        changes = _changes(self._nodes, document.nodes)
        screen.lines([*changes, *([leader] if leader != self._leader else [])])
        self._nodes, self._leader = document.nodes, leader

    def is_away(self, error: Exception) -> None:
        """Say so, once."""
        if not self._is_away:
            self._app.screen.say(f"{self._app.url}: {error}; watching on")
        self._is_away = True


def _changes(before: tuple[str, ...], after: tuple[str, ...]) -> list[str]:
    gone = [f"- {addr}" for addr in before if addr not in after]
    return gone + [f"+ {addr}" for addr in after if addr not in before]


def _leader(document: Document) -> str:
    if document.leader is None:
        return _NOBODY if document.claim is None else _CLAIMED
    listed = [node.addr for node in document.registrations if node.leader]
    state = "leader" if document.leader.reported else "claimed"
    return f"{state} {listed[0] if listed else document.leader.addr}"
