"""The command watch: what changes about an ID, as it changes."""

from __future__ import annotations

from rqdisco.cli.app import App, pause
from rqdisco.client import Document, Refused, Unreachable


async def watch(app: App, discovery_id: str, interval: float) -> int:
    """Print each change, looking every `interval` seconds, until interrupted or the ID is unknown.

    A service that is away is waited for.
    """
    nodes: list[str] = []
    leader = _NOBODY
    away = False
    while True:
        app.screen.check_reader()
        try:
            document = await app.client.get(discovery_id)
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and error.status < 500 and error.status != 429:
                raise
            if not away:
                app.screen.say(f"{app.url}: {error}; watching on")
            away = True
        else:
            if away:
                app.screen.say(f"{app.url} is back")
            away = False
            now = _leader(document)
            app.screen.lines([*_changes(nodes, document.nodes), *([now] if now != leader else [])])
            nodes, leader = list(document.nodes), now
        await pause(app, interval)


_NOBODY = "leader -"


def _changes(before: list[str], after: tuple[str, ...]) -> list[str]:
    gone = [f"- {addr}" for addr in before if addr not in after]
    return gone + [f"+ {addr}" for addr in after if addr not in before]


def _leader(document: Document) -> str:
    if document.leader is None:
        return _NOBODY
    listed = [node.addr for node in document.registrations if node.leader]
    state = "leader" if document.leader.reported else "claimed"
    return f"{state} {listed[0] if listed else document.leader.addr}"
