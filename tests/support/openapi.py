"""Each documented answer of the OpenAPI document, produced by a daemon in memory.

`python -m tests.support.openapi` rewrites the examples of the document from real answers.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import rqdisco
from rqdisco import __version__
from rqdisco.http.openapi.document import operations, path_of
from rqdisco.http.operations import Audience
from tests.support.prepared_daemons import (
    IMPORT_BYTES,
    LEADER,
    MAX_BODY,
    NODE,
    OTHER,
    PreparedDaemon,
    Reply,
    backend,
    broken,
    claimed,
    crowded,
    cut_off,
    daemon_for,
    frozen,
    full,
    full_after_loss,
    full_and_frozen,
    full_of_three,
    hurried,
    lost,
    named,
    on_behalf,
    ownerless,
    probed,
    stopping,
    unknown,
    unnamed,
    with_all_ids,
    with_disk,
    with_full_disk,
    without_disk,
    without_etcd,
)

EXAMPLES = Path(rqdisco.__file__).parent / "http" / "openapi" / "examples.py"
AUDIENCES: tuple[Audience, ...] = ("open", "guarded", "operator")


class Exchange(msgspec.Struct, frozen=True):
    """A request for an operation, and the status of its answer by the daemon that `prepare`
    returns. It is about the daemon's own ID unless `id` is given.
    """

    method: str
    path: str
    status: int
    prepare: Callable[[Audience], PreparedDaemon] = daemon_for
    body: object = None
    query: str = ""
    token: str | None = "admin"
    id: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def operation(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def name(self) -> str:
        return f"{self.operation}{self.query} {self.status}"

    def play(self, audience: Audience, method: str | None = None) -> Reply:
        """Return the answer; to another method, if one is given."""
        headers = dict(self.headers)
        prepare = self.prepare(audience)
        prepare.id = self.id or prepare.id
        if "If_None_Match" in headers:
            headers["If_None_Match"] = prepare.ask("GET", self.path).headers["etag"]
        return prepare.ask(method or self.method, self.path + self.query, self.body, self.token, **headers)


KV = "/v1/kv/{id}/leader"
TOO_LARGE = b" " * (MAX_BODY + 1)
_HUGE = b" " * (IMPORT_BYTES + 1)
_RECORD = {"id": "orders", "created_at": 1, "nodes": [NODE], "leader": {"value": msgspec.json.encode(LEADER).decode()}}
_HTML = {"Accept": "text/html"}
EXCHANGES = [
    Exchange("GET", "/", 200),
    Exchange("GET", "/", 200, headers=_HTML),
    Exchange("GET", "/", 303, query="?id=orders", headers=_HTML),
    Exchange("GET", "/", 500, broken),
    Exchange("POST", "/", 200),
    Exchange("POST", "/", 429, hurried),
    Exchange("POST", "/", 500, broken),
    Exchange("POST", "/", 503, full),
    Exchange("POST", "/", 503, with_all_ids),
    Exchange("GET", "/{id}", 200),
    Exchange("GET", "/{id}", 200, ownerless),
    Exchange("GET", "/{id}", 200, probed),
    Exchange("GET", "/{id}", 200, backend, query="?consistent=1"),
    Exchange("GET", "/{id}", 200, claimed),
    Exchange("GET", "/{id}", 200, on_behalf),
    Exchange("GET", "/{id}", 200, query="?explain=1"),
    Exchange("GET", "/{id}", 200, claimed, query="?explain=1"),
    Exchange("GET", "/{id}", 200, headers=_HTML),
    Exchange("GET", "/{id}", 404, unknown),
    Exchange("GET", "/{id}", 404, unknown, headers=_HTML),
    Exchange("GET", "/{id}/events", 200),
    Exchange("GET", "/{id}/events", 404, unknown),
    Exchange("GET", "/{id}/events", 500, broken),
    Exchange("GET", "/{id}/events", 503, cut_off),
    Exchange("GET", "/status", 200, headers=_HTML),
    Exchange("GET", "/status", 404),
    Exchange("GET", "/status", 500, broken, headers=_HTML),
    Exchange("GET", "/{id}", 500, broken),
    Exchange("GET", "/{id}", 503, cut_off),
    Exchange("POST", "/{id}", 200, body=NODE),
    Exchange("POST", "/{id}", 400, body={"addr": "10.0.0.1 4001"}),
    Exchange("POST", "/{id}", 400, body=b"{"),
    Exchange("POST", "/{id}", 404, unknown, NODE),
    Exchange("POST", "/{id}", 409, crowded, {"addr": "10.0.0.4:4001"}),
    Exchange("POST", "/{id}", 409, body={"addr": "localhost:4001"}),
    Exchange("POST", "/{id}", 410, ownerless, NODE),
    Exchange("POST", "/{id}", 413, body=TOO_LARGE),
    Exchange("POST", "/{id}", 500, broken, NODE),
    Exchange("POST", "/{id}", 503, full, {"addr": "10.0.0.3:4001"}),
    Exchange("POST", "/{id}", 503, claimed, {"addr": "10.0.0.3:4001"}),
    Exchange("PUT", "/{id}", 201, named),
    Exchange("PUT", "/{id}", 400),
    Exchange("PUT", "/{id}", 409, claimed),
    Exchange("PUT", "/{id}", 429, hurried, id="orders"),
    Exchange("PUT", "/{id}", 500, broken, id="orders"),
    Exchange("PUT", "/{id}", 503, full, id="orders"),
    Exchange("PUT", "/{id}", 503, with_all_ids, id="orders"),
    Exchange("PUT", "/{id}", 503, lost, id="orders"),
    Exchange("DELETE", "/{id}", 200, body=OTHER),
    Exchange("DELETE", "/{id}", 400, body={}),
    Exchange("DELETE", "/{id}", 404, unknown, OTHER),
    Exchange("DELETE", "/{id}", 413, body=TOO_LARGE),
    Exchange("DELETE", "/{id}", 500, broken, OTHER),
    Exchange("DELETE", "/{id}", 503, full, OTHER),
    Exchange("GET", KV, 200),
    Exchange("GET", KV, 200, query="?raw"),
    Exchange("GET", KV, 400, query="?recurse"),
    Exchange("GET", KV, 404, unknown),
    Exchange("GET", KV, 404, claimed),
    Exchange("GET", KV, 500, broken),
    Exchange("GET", KV, 503, cut_off),
    Exchange("PUT", KV, 200, body=LEADER),
    Exchange("PUT", KV, 200, body=LEADER, query="?cas=0"),
    Exchange("PUT", KV, 200, named, body=LEADER, query="?cas=0&flags=1"),
    Exchange("PUT", KV, 200, claimed, body=LEADER, query="?cas=0"),
    Exchange("PUT", KV, 400, body={"addr": ""}),
    Exchange("PUT", KV, 400, body=LEADER, query="?cas=-1"),
    Exchange("PUT", KV, 403, unnamed, LEADER),
    Exchange("PUT", KV, 404, unknown, LEADER, "?cas=0"),
    Exchange("PUT", KV, 409, crowded, {"addr": "10.0.0.4:4002"}),
    Exchange("PUT", KV, 410, ownerless, LEADER, "?cas=0"),
    Exchange("PUT", KV, 413, body=TOO_LARGE),
    Exchange("PUT", KV, 500, broken, LEADER),
    Exchange("PUT", KV, 503, full, {**LEADER, "addr": "10.0.0.1:4003"}),
    Exchange("DELETE", KV, 200),
    Exchange("DELETE", KV, 200, query="?cas=1"),
    Exchange("DELETE", KV, 200, claimed),
    Exchange("DELETE", KV, 400, query="?cas=x"),
    Exchange("DELETE", KV, 500, broken),
    Exchange("DELETE", KV, 503, full),
    Exchange("GET", "/healthz", 200),
    Exchange("GET", "/readyz", 200, full),
    Exchange("GET", "/readyz", 200, token=None),
    Exchange("GET", "/readyz", 503, stopping),
    Exchange("GET", "/readyz", 503, stopping, token=None),
    Exchange("GET", "/openapi.json", 200),
    Exchange("GET", "/openapi.json", 304, headers={"If_None_Match": "that of the page"}),
    Exchange("GET", "/metrics", 200),
    Exchange("GET", "/operator/clusters", 200),
    Exchange("GET", "/operator/clusters", 200, claimed, query="?limit=1&search=o&after=a"),
    Exchange("GET", "/operator/clusters", 400, query="?limit=0"),
    Exchange("GET", "/operator/clusters", 500, broken),
    Exchange("GET", "/operator/clusters", 503, without_etcd),
    Exchange("GET", "/operator/export", 200),
    Exchange("GET", "/operator/export", 200, claimed),
    Exchange("GET", "/operator/backup", 200, with_disk),
    Exchange("GET", "/operator/backup", 404, without_disk),
    Exchange("GET", "/operator/backup", 503, with_full_disk),
    Exchange("POST", "/operator/import", 200, body={"records": [_RECORD, {"id": "..", "created_at": 1}]}),
    Exchange("POST", "/operator/import", 400, body={"records": {}}),
    Exchange("POST", "/operator/import", 413, body=_HUGE),
    Exchange("POST", "/operator/import", 500, broken, {"records": [_RECORD]}),
    Exchange("POST", "/operator/import", 503, full, {"records": [_RECORD]}),
    Exchange("GET", "/operator/freeze", 200),
    Exchange("GET", "/operator/freeze", 500, broken),
    Exchange("POST", "/operator/freeze", 200, body={"reason": "frozen for a migration to http://b:4000"}),
    Exchange("POST", "/operator/freeze", 400, body={"reason": "two\nlines"}),
    Exchange("POST", "/operator/freeze", 409, frozen, {"reason": "frozen for a migration to http://c:4000"}),
    Exchange("POST", "/operator/freeze", 413, body=_HUGE),
    Exchange("POST", "/operator/freeze", 500, broken, {"reason": "x"}),
    Exchange("POST", "/operator/freeze", 503, full, {"reason": "x"}),
    Exchange("POST", "/operator/thaw", 200, frozen),
    Exchange("POST", "/operator/thaw", 500, broken),
    Exchange("POST", "/operator/thaw", 503, full_and_frozen),
    Exchange("GET", "/operator/peers", 200, lost),
    Exchange("GET", "/operator/peers", 200, backend),
    Exchange("GET", "/operator/peers", 404),
    Exchange("GET", "/operator/peers", 500, broken),
    Exchange("GET", "/operator/peers/forget", 200, lost, query="?name=c"),
    Exchange("GET", "/operator/peers/forget", 400, backend),
    Exchange("GET", "/operator/peers/forget", 404, query="?name=c"),
    Exchange("GET", "/operator/peers/forget", 409, backend, query="?name=c"),
    Exchange("GET", "/operator/peers/forget", 500, broken, query="?name=c"),
    Exchange("POST", "/operator/peers/forget", 200, lost, {"name": "c"}),
    Exchange("POST", "/operator/peers/forget", 400, backend, {"name": 5}),
    Exchange("POST", "/operator/peers/forget", 404, body={"name": "c"}),
    Exchange("POST", "/operator/peers/forget", 409, backend, {"name": "c"}),
    Exchange("POST", "/operator/peers/forget", 413, body=_HUGE),
    Exchange("POST", "/operator/peers/forget", 500, broken, {"name": "c"}),
    Exchange("POST", "/operator/peers/forget", 503, full_after_loss, {"name": "c"}),
    Exchange("POST", "/operator/drain", 200, backend, {"to": "b"}),
    Exchange("POST", "/operator/drain", 200, backend),
    Exchange("POST", "/operator/drain", 400, backend, {"to": 5}),
    Exchange("POST", "/operator/drain", 404, body={}),
    Exchange("POST", "/operator/drain", 409, backend, {"to": "d"}),
    Exchange("POST", "/operator/drain", 413, body=_HUGE),
    Exchange("POST", "/operator/drain", 500, broken, {}),
    Exchange("POST", "/operator/drain", 503, full_of_three, {"to": "b"}),
]


def exchanges(audience: Audience) -> list[Exchange]:
    """Return all exchanges of this audience; with tokens, also those without one and with a wrong
    one.
    """
    answered = {f"{each.method} {path_of(endpoint)}": (endpoint, each) for endpoint, each in operations(audience)}
    # The operator socket has no limits.
    found = [
        exchange
        for exchange in EXCHANGES
        if exchange.operation in answered and not (exchange.prepare is hurried and audience == "operator")
    ]
    found += [
        Exchange(operation.method, path_of(endpoint), 403, headers={"Sec_Fetch_Site": "cross-site"})
        for endpoint, operation in answered.values()
        if operation.method != "GET"
    ]
    if audience != "guarded":
        return found
    for key, (endpoint, operation) in answered.items():
        method, _, path = key.partition(" ")
        if operation.right == "known":
            found.append(Exchange(method, path, 401, token="unknown"))
        elif operation.right is not None:
            text = endpoint.label[0] == "consul"
            wrong = "mint" if operation.right != "mint" else "read"
            found.append(Exchange(method, path, 403 if text else 401, token=None))
            found.append(Exchange(method, path, 403, token=wrong))
    return found


def examples() -> dict[str, Any]:
    """Return the first successful answer of each operation, and its request."""
    found: dict[str, Any] = {}
    for audience in ("operator", "guarded"):
        for exchange in exchanges(audience):
            if exchange.path in ("/openapi.json", "/metrics") or exchange.status not in (200, 201):
                continue
            reply = exchange.play(audience)
            key = f"{exchange.operation} {exchange.status} {reply.kind}"
            if key in found or reply.kind == "text/html" or not reply.body:
                continue
            found[key] = msgspec.json.decode(reply.body) if reply.kind == "application/json" else reply.body.decode()
            if isinstance(exchange.body, dict):
                found.setdefault(f"{exchange.operation} body", exchange.body)
    found["GET / 200 application/json"]["version"] = __version__
    return found


def main() -> None:
    """Write the examples."""
    head = EXAMPLES.read_text().partition("EXAMPLES: ")[0]
    EXAMPLES.write_text(f"{head}EXAMPLES: dict[str, object] = {examples()!r}\n")
    subprocess.run([str(Path(sys.executable).with_name("ruff")), "format", "-q", str(EXAMPLES)], check=True)


if __name__ == "__main__":
    main()
