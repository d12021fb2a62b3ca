"""A hostile service: every string of its answers tries to control the client's terminal."""

from __future__ import annotations

import json
import zlib
from typing import Any

from klein import Klein
from twisted.web.resource import IResource

NASTY = 'a\r\nINJECTED\tcell \x1b[2J\x1b]0;t\x07 \x9b2J\x85\x7f\x00\u202e\u200f\u2028\u2029\ufeff "\\ \U000e0041 b'
PHRASE = b"\x1b[2J \x9b2J \xc2\x9b2J \xe2\x80\xae"
_JSON, _TEXT, _EVENTS = "application/json", "text/plain", "text/event-stream"


class Hostile:
    """Answers every request with `status`. `name` is its reported name, `up` whether it has nodes
    that are up, `led` whether they have a leader, or a claim to lead.
    """

    app = Klein()

    def __init__(self, status: int = 200, *, name: str = "rqdisco", up: bool | None = True, led: bool = True) -> None:
        self.status, self.name, self.up, self.led = status, name, up, led
        self.export = export(record("one"), record("two"))

    def resource(self) -> IResource:
        """Return the resource of the service."""
        found: IResource = self.app.resource()
        return found

    @app.route("/", branch=True)
    def answer(self, request: Any) -> bytes:
        """Answer any request."""
        path = request.path.decode()
        kind, body = self._answer(request.method.decode(), path)
        if self.status != 200:
            kind, body = _refusal(path)
        request.setResponseCode(self.status, PHRASE)
        request.setHeader("content-type", kind)
        request.setHeader("retry-after", "\x9b2J")
        return body

    def _answer(self, method: str, path: str) -> tuple[str, bytes]:
        if path == "/operator/export":
            return _JSON, self.export
        if path.startswith("/operator/"):
            return _JSON, _written(_operator_answer(path))
        if path.startswith("/v1/kv/"):
            return _JSON, _written(True) if method != "GET" else b"[]"
        if path.endswith("/events"):
            return _EVENTS, b"data: " + _written(self._document()) + b"\n\n"
        if path == "/" and method == "GET":
            return _JSON, _written({"name": self.name, "version": NASTY, "uptime": 1, "ids": 1})
        return _JSON, _written(self._document())

    def _document(self) -> dict[str, Any]:
        registration = {"raft_addr": NASTY, "node_id": NASTY, "why": NASTY, "since": 1.0, "checked": 1.0}
        addrs = [f"{NASTY}1", f"{NASTY}2"]
        leader = {"addr": NASTY, "index": 7, "reported": False, "id": NASTY, "api_addr": NASTY}
        return {
            "created_at": NASTY,
            "disco_id": NASTY,
            "nodes": addrs,
            "registrations": [
                {"addr": addr, "leader": True, "up": self.up and number == 1, "ready": False, **registration}
                for number, addr in enumerate(addrs)
            ],
            **({"leader": leader} if self.led else {"claim": {"since": NASTY, "answered": 2}}),
            "orphaned": False,
        }


def record(discovery_id: str) -> bytes:
    """Return an exported record, with the control characters that JSON allows."""
    return _written({"id": discovery_id, "created_at": 1, "nodes": [{"addr": NASTY, "node_id": NASTY}]})


def export(*records: bytes) -> bytes:
    """Return an export of these records, complete with its count and its CRC."""
    header = b'{"format":"rqdisco export","version":1,"count":%d,"x":%s,"records":[\n' % (len(records), _written(NASTY))
    lines = header + b",\n".join(records) + b"\n"
    return lines + b'],"count":%d,"crc":"%08x","x":%s}\n' % (len(records), zlib.crc32(lines), _written(NASTY))


def _operator_answer(path: str) -> dict[str, Any]:
    if path == "/operator/import":
        return {"imported": 1, "unchanged": 0, "refused": [{"id": NASTY, "why": NASTY}]}
    if path == "/operator/clusters":
        listed = {
            "disco_id": NASTY,
            "created_at": NASTY,
            "age": 1,
            "nodes": 1,
            "health": NASTY,
            "reason": NASTY,
            "leader": NASTY,
            "reported": NASTY,
        }
        return {"clusters": [listed, listed], "next": None}
    if path == "/operator/peers/forget":
        # The answers to the preview and to the command.
        return {"name": NASTY, "forgotten": NASTY, "incarnation": NASTY, "state": NASTY, "ids": 1}
    if path == "/operator/drain":
        return {"to": NASTY}
    peer = {"url": NASTY, "state": NASTY, "name": NASTY, "incarnation": NASTY, "successor": NASTY, "why": NASTY}
    own = {"name": NASTY, "incarnation": NASTY, "url": NASTY, "state": NASTY, "agreed": True, "hints": 1}
    return {**own, "peers": [peer], "notes": [NASTY]}


def _refusal(path: str) -> tuple[str, bytes]:
    if path.startswith("/v1/kv/"):
        return _TEXT, NASTY.encode()
    return _JSON, _written({"error": NASTY, "reason": NASTY})


def _written(document: Any) -> bytes:
    """Return JSON with as many raw characters as JSON allows."""
    return json.dumps(document, ensure_ascii=False).encode()
