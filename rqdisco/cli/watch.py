"""The command watch, which prints changes to an ID as they happen."""

from __future__ import annotations

from contextlib import aclosing

from rqdisco.cli.app import App, sleep
from rqdisco.client import Document, NotWatchable, Refused, Unavailable, Unreachable

_NO_LEADER = "leader -"
_CHANGES = {"+": "added", "-": "removed"}
# The node is hidden until it reports.
_HIDDEN_CLAIM = "claimed -"


async def watch(app: App, discovery_id: str, interval: float, *, as_json: bool) -> int:
    """Print each change until interrupted, or until the ID is unknown.

    The service streams changes. One that is too old for that, or has too many watchers, is polled
    every `interval` seconds. A service that is down is waited for.
    """
    printer = _ChangePrinter(app, as_json=as_json)
    can_stream = True
    while True:
        app.output.check_reader()
        try:
            if can_stream:
                async with aclosing(app.client.watch(discovery_id)) as documents:
                    async for document in documents:
                        printer.print_changes(document)
                        app.output.check_reader()
            else:
                printer.print_changes(await app.client.get(discovery_id))
        except NotWatchable:
            can_stream = False
            continue
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and error.status < 500 and error.status != 429:
                raise
            if can_stream and isinstance(error, Unavailable):
                await _poll_once(app, discovery_id, printer)
            else:
                printer.report_down(error)
        await sleep(app, interval)


async def _poll_once(app: App, discovery_id: str, printer: _ChangePrinter) -> None:
    """Print the changes of a service that currently accepts no watcher."""
    try:
        printer.print_changes(await app.client.get(discovery_id))
    except (Unreachable, Unavailable) as error:
        printer.report_down(error)


class _ChangePrinter:
    """Print how each document differs from the previous one."""

    def __init__(self, app: App, *, as_json: bool) -> None:
        self._app = app
        self._as_json = as_json
        self._nodes: tuple[str, ...] = ()
        self._leader = _NO_LEADER
        self._is_down = False

    def print_changes(self, document: Document) -> None:
        """Print what changed since the last call."""
        output = self._app.output
        if self._is_down:
            output.message(f"{self._app.url} is back")
            self._is_down = False
        leader = _leader_line(document)
        changes = _node_lines(self._nodes, document.nodes)
        lines = [*changes, *([leader] if leader != self._leader else [])]
        if self._as_json:
            for line in lines:
                output.document(_change(line))
        else:
            output.lines(lines)
        self._nodes, self._leader = document.nodes, leader

    def report_down(self, error: Exception) -> None:
        """Report that the service is down, once until it is back."""
        if not self._is_down:
            self._app.output.message(f"{self._app.url}: {error}; still watching")
        self._is_down = True


def _change(line: str) -> dict[str, str | None]:
    """Return a line as an object."""
    word, _, addr = line.partition(" ")
    return {"change": _CHANGES.get(word, word), "addr": None if addr == "-" else addr}


def _node_lines(before: tuple[str, ...], after: tuple[str, ...]) -> list[str]:
    removed = [f"- {addr}" for addr in before if addr not in after]
    return removed + [f"+ {addr}" for addr in after if addr not in before]


def _leader_line(document: Document) -> str:
    if document.leader is None:
        return _NO_LEADER if document.claim is None else _HIDDEN_CLAIM
    listed = [node.addr for node in document.registrations if node.leader]
    state = "leader" if document.leader.reported else "claimed"
    return f"{state} {listed[0] if listed else document.leader.addr}"
