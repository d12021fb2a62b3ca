"""Each answer that the OpenAPI document speaks of, brought about on a daemon in memory.

`python -m tests.support.openapi` writes the examples of the document anew, from what is answered.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from rqdisco import __version__
from rqdisco.http.openapi.document import operations
from rqdisco.http.openapi.parts import Audience
from tests.support.places import (
    IMPORT_BYTES,
    LEADER,
    MAX_BODY,
    NODE,
    OTHER,
    Place,
    Reply,
    backend,
    broken,
    claimed,
    crowded,
    cut_off,
    daemon_for,
    full,
    full_after_loss,
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
)

EXAMPLES = Path(__file__).parents[2] / "rqdisco" / "http" / "openapi" / "examples.py"
AUDIENCES: tuple[Audience, ...] = ("open", "guarded", "operator")


class Scene(msgspec.Struct, frozen=True):
    """A request for an operation, and what it is answered where `place` is the case."""

    method: str
    path: str
    status: int
    place: Callable[[Audience], Place] = daemon_for
    body: object = None
    query: str = ""
    token: str | None = "admin"
    headers: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def operation(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def name(self) -> str:
        return f"{self.operation}{self.query} {self.status}"

    def play(self, audience: Audience, method: str | None = None) -> Reply:
        """What is answered; with another method, if one is given."""
        headers = dict(self.headers)
        place = self.place(audience)
        if "If_None_Match" in headers:
            headers["If_None_Match"] = place.ask("GET", self.path).headers["etag"]
        return place.ask(method or self.method, self.path + self.query, self.body, self.token, **headers)


KV = "/v1/kv/{id}/leader"
TOO_LARGE = b" " * (MAX_BODY + 1)
_HUGE = b" " * (IMPORT_BYTES + 1)
_RECORD = {"id": "orders", "created_at": 1, "nodes": [NODE], "leader": {"value": msgspec.json.encode(LEADER).decode()}}
_HTML = {"Accept": "text/html"}
SCENES = [
    Scene("GET", "/", 200),
    Scene("GET", "/", 200, headers=_HTML),
    Scene("GET", "/", 303, query="?id=orders", headers=_HTML),
    Scene("GET", "/", 500, broken),
    Scene("POST", "/", 200),
    Scene("POST", "/", 429, hurried),
    Scene("POST", "/", 500, broken),
    Scene("POST", "/", 503, full),
    Scene("POST", "/", 503, lambda audience: daemon_for(audience, max_ids=1)),
    Scene("GET", "/{id}", 200),
    Scene("GET", "/{id}", 200, ownerless),
    Scene("GET", "/{id}", 200, probed),
    Scene("GET", "/{id}", 200, backend, query="?consistent=1"),
    Scene("GET", "/{id}", 200, claimed),
    Scene("GET", "/{id}", 200, on_behalf),
    Scene("GET", "/{id}", 200, query="?explain=1"),
    Scene("GET", "/{id}", 200, claimed, query="?explain=1"),
    Scene("GET", "/{id}", 200, headers=_HTML),
    Scene("GET", "/{id}", 404, unknown),
    Scene("GET", "/{id}", 404, unknown, headers=_HTML),
    Scene("GET", "/{id}/events", 200),
    Scene("GET", "/{id}/events", 404, unknown),
    Scene("GET", "/{id}/events", 500, broken),
    Scene("GET", "/{id}/events", 503, cut_off),
    Scene("GET", "/status", 200, headers=_HTML),
    Scene("GET", "/status", 404),
    Scene("GET", "/status", 500, broken, headers=_HTML),
    Scene("GET", "/{id}", 500, broken),
    Scene("GET", "/{id}", 503, cut_off),
    Scene("POST", "/{id}", 200, body=NODE),
    Scene("POST", "/{id}", 400, body={"addr": "10.0.0.1 4001"}),
    Scene("POST", "/{id}", 400, body=b"{"),
    Scene("POST", "/{id}", 404, unknown, NODE),
    Scene("POST", "/{id}", 409, crowded, {"addr": "10.0.0.4:4001"}),
    Scene("POST", "/{id}", 409, body={"addr": "localhost:4001"}),
    Scene("POST", "/{id}", 410, ownerless, NODE),
    Scene("POST", "/{id}", 413, body=TOO_LARGE),
    Scene("POST", "/{id}", 500, broken, NODE),
    Scene("POST", "/{id}", 503, full, {"addr": "10.0.0.3:4001"}),
    Scene("POST", "/{id}", 503, claimed, {"addr": "10.0.0.3:4001"}),
    Scene("DELETE", "/{id}", 200, body=OTHER),
    Scene("DELETE", "/{id}", 400, body={}),
    Scene("DELETE", "/{id}", 404, unknown, OTHER),
    Scene("DELETE", "/{id}", 413, body=TOO_LARGE),
    Scene("DELETE", "/{id}", 500, broken, OTHER),
    Scene("DELETE", "/{id}", 503, full, OTHER),
    Scene("GET", KV, 200),
    Scene("GET", KV, 200, query="?raw"),
    Scene("GET", KV, 400, query="?recurse"),
    Scene("GET", KV, 404, unknown),
    Scene("GET", KV, 404, claimed),
    Scene("GET", KV, 500, broken),
    Scene("GET", KV, 503, cut_off),
    Scene("PUT", KV, 200, body=LEADER),
    Scene("PUT", KV, 200, body=LEADER, query="?cas=0"),
    Scene("PUT", KV, 200, named, body=LEADER, query="?cas=0&flags=1"),
    Scene("PUT", KV, 200, claimed, body=LEADER, query="?cas=0"),
    Scene("PUT", KV, 400, body={"addr": ""}),
    Scene("PUT", KV, 400, body=LEADER, query="?cas=-1"),
    Scene("PUT", KV, 403, unnamed, LEADER),
    Scene("PUT", KV, 404, unknown, LEADER, "?cas=0"),
    Scene("PUT", KV, 409, crowded, {"addr": "10.0.0.4:4002"}),
    Scene("PUT", KV, 410, ownerless, LEADER, "?cas=0"),
    Scene("PUT", KV, 413, body=TOO_LARGE),
    Scene("PUT", KV, 500, broken, LEADER),
    Scene("PUT", KV, 503, full, {**LEADER, "addr": "10.0.0.1:4003"}),
    Scene("DELETE", KV, 200),
    Scene("DELETE", KV, 200, query="?cas=1"),
    Scene("DELETE", KV, 200, claimed),
    Scene("DELETE", KV, 400, query="?cas=x"),
    Scene("DELETE", KV, 500, broken),
    Scene("DELETE", KV, 503, full),
    Scene("GET", "/healthz", 200),
    Scene("GET", "/readyz", 200, full),
    Scene("GET", "/readyz", 200, token=None),
    Scene("GET", "/readyz", 503, stopping),
    Scene("GET", "/readyz", 503, stopping, token=None),
    Scene("GET", "/openapi.json", 200),
    Scene("GET", "/openapi.json", 304, headers={"If_None_Match": "that of the page"}),
    Scene("GET", "/metrics", 200),
    Scene("GET", "/operator/export", 200),
    Scene("GET", "/operator/export", 200, claimed),
    Scene("POST", "/operator/import", 200, body={"records": [_RECORD, {"id": "..", "created_at": 1}]}),
    Scene("POST", "/operator/import", 400, body={"records": {}}),
    Scene("POST", "/operator/import", 413, body=_HUGE),
    Scene("POST", "/operator/import", 500, broken, {"records": [_RECORD]}),
    Scene("POST", "/operator/import", 503, full, {"records": [_RECORD]}),
    Scene("GET", "/operator/peers", 200, lost),
    Scene("GET", "/operator/peers", 200, backend),
    Scene("GET", "/operator/peers", 404),
    Scene("GET", "/operator/peers", 500, broken),
    Scene("POST", "/operator/peers/forget", 200, lost, {"name": "c"}),
    Scene("POST", "/operator/peers/forget", 400, backend, {"name": 5}),
    Scene("POST", "/operator/peers/forget", 404, body={"name": "c"}),
    Scene("POST", "/operator/peers/forget", 409, backend, {"name": "c"}),
    Scene("POST", "/operator/peers/forget", 413, body=_HUGE),
    Scene("POST", "/operator/peers/forget", 500, broken, {"name": "c"}),
    Scene("POST", "/operator/peers/forget", 503, full_after_loss, {"name": "c"}),
    Scene("POST", "/operator/drain", 200, backend, {"to": "b"}),
    Scene("POST", "/operator/drain", 200, backend),
    Scene("POST", "/operator/drain", 400, backend, {"to": 5}),
    Scene("POST", "/operator/drain", 404, body={}),
    Scene("POST", "/operator/drain", 409, backend, {"to": "d"}),
    Scene("POST", "/operator/drain", 413, body=_HUGE),
    Scene("POST", "/operator/drain", 500, broken, {}),
    Scene("POST", "/operator/drain", 503, full_of_three, {"to": "b"}),
]


def scenes(audience: Audience) -> list[Scene]:
    """All that are answered to this audience; with tokens, also those of who has none, and of who
    has the wrong one.
    """
    answered = {operation.key: operation for operation in operations(audience)}
    # The operator's socket limits nobody.
    found = [
        scene
        for scene in SCENES
        if scene.operation in answered and not (scene.place is hurried and audience == "operator")
    ]
    found += [
        Scene(operation.method.upper(), operation.path, 403, headers={"Sec_Fetch_Site": "cross-site"})
        for operation in answered.values()
        if operation.method != "get"
    ]
    if audience != "guarded":
        return found
    for key, operation in answered.items():
        method, _, path = key.partition(" ")
        if operation.right == "known":
            found.append(Scene(method, path, 401, token="unknown"))
        elif operation.right is not None:
            text = operation.error_format == "text"
            wrong = "mint" if operation.right != "mint" else "read"
            found.append(Scene(method, path, 403 if text else 401, token=None))
            found.append(Scene(method, path, 403, token=wrong))
    return found


def examples() -> dict[str, Any]:
    """What is answered first in each case, and what is asked for it."""
    found: dict[str, Any] = {}
    for audience in ("operator", "guarded"):
        for scene in scenes(audience):
            if scene.path in ("/openapi.json", "/metrics") or scene.place is broken:
                continue
            reply = scene.play(audience)
            key = f"{scene.operation} {scene.status} {reply.kind}"
            if key in found or reply.kind == "text/html" or not reply.body:
                continue
            found[key] = msgspec.json.decode(reply.body) if reply.kind == "application/json" else reply.body.decode()
            if scene.status == 200 and isinstance(scene.body, dict):
                found.setdefault(f"{scene.operation} body", scene.body)
    found["GET / 200 application/json"]["version"] = __version__
    return found


def main() -> None:
    """Write the examples."""
    head = EXAMPLES.read_text().partition("EXAMPLES: ")[0]
    EXAMPLES.write_text(f"{head}EXAMPLES: dict[str, Any] = {examples()!r}\n")
    subprocess.run([str(Path(sys.executable).with_name("ruff")), "format", "-q", str(EXAMPLES)], check=True)


if __name__ == "__main__":
    main()
