"""APIs that require tokens: what each scope allows, what all others are answered, and how a token
can be sent.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from rqdisco.security.tokens import TokenRing, describe
from tests.support.guarded import MAX_BODY, OTHER, A, Guarded, secret

pytestmark = pytest.mark.usefixtures("each_backend")

VALUE = {"id": "1", "api_addr": "http://h:1", "addr": "h:2"}
TOKENS = ("mint", "read", "write", "admin", "read-here", "write-here", "elsewhere")
READ = {"read", "admin", "read-here"}
WRITE = {"write", "admin", "write-here"}
READ_ELSEWHERE = {"read", "admin", "elsewhere"}
WRITE_ELSEWHERE = {"write", "admin", "elsewhere"}
READ_ANYWHERE = {"read", "admin"}
WRITE_ANYWHERE = {"write", "admin"}
# Each request, and the tokens that allow it; {id} is the existing ID, {other} one that was never
# created.
REQUESTS: list[tuple[str, str, object, set[str]]] = [
    ("POST", "/", None, {"mint", "admin"}),
    ("GET", "/{id}", None, READ),
    ("HEAD", "/{id}", None, READ),
    ("GET", "/{id}?consistent=1", None, READ),
    ("PUT", "/{id}", None, {"mint", "admin"}),
    ("PUT", "/orders", None, {"mint", "admin"}),
    ("PUT", "/status", None, {"admin"}),
    ("PATCH", "/{id}", None, READ),
    ("GET", "//{id}/", None, READ),
    ("GET", "/%7Bid", None, READ_ANYWHERE),
    ("GET", "/a/b", None, READ_ANYWHERE),
    ("POST", "/{id}", {"addr": "b:1"}, WRITE),
    ("POST", "/{id}/", {"addr": "b:1"}, WRITE),
    ("DELETE", "/{id}", {"addr": A}, WRITE),
    ("GET", "/{other}", None, READ_ELSEWHERE),
    ("POST", "/{other}", {"addr": "b:1"}, WRITE_ELSEWHERE),
    ("DELETE", "/{other}", {"addr": "b:1"}, WRITE_ELSEWHERE),
    ("GET", "/v1/kv/{id}/leader", None, READ),
    ("GET", "/v1/kv/%7Bid/leader", None, READ_ANYWHERE),
    ("GET", "/v1/kv/{id}/other", None, READ_ANYWHERE),
    ("POST", "/v1/kv/{id}/leader", None, READ),
    ("PUT", "/v1/kv/{id}/leader", VALUE, WRITE),
    ("PUT", "/v1/kv/{id}/leader?cas=0", VALUE, WRITE),
    ("PUT", "/v1/kv/{other}/leader?cas=0", VALUE, WRITE_ELSEWHERE),
    ("PUT", "/v1/kv/new/leader", VALUE, WRITE_ANYWHERE),
    ("PUT", "/v1/kv/new/leader?acquire=x", VALUE, WRITE_ANYWHERE),
    ("DELETE", "/v1/kv/{id}/leader", None, WRITE),
    ("GET", "/operator/export", None, {"admin"}),
    ("GET", "/operator/clusters", None, {"admin"}),
    ("POST", "/operator/clusters", None, {"admin"}),
    ("GET", "/operator/backup", None, {"admin"}),
    ("POST", "/operator/import", {"records": []}, {"admin"}),
    ("POST", "/operator/export", None, {"admin"}),
    ("GET", "/operator/peers", None, {"admin"}),
    ("GET", "/operator/peers/forget?name=x", None, {"admin"}),
    ("POST", "/operator/peers/forget", {"name": "x"}, {"admin"}),
    ("POST", "/operator/drain", {}, {"admin"}),
    ("GET", "/operator/nonsense", None, {"admin"}),
    ("PUT", "/", None, set(TOKENS)),
    ("GET", "//", None, set(TOKENS)),
    ("GET", "/v1/kv/", None, set(TOKENS)),
    ("GET", "/v1/agent/self", None, set(TOKENS)),
    ("GET", "/v1/%ff", None, set(TOKENS)),
    ("GET", "/operator/%ff", None, {"admin"}),
]
NAMES = [f"{method} {path}" for method, path, *_ in REQUESTS]


@pytest.mark.parametrize(("method", "path", "body", "allows"), REQUESTS, ids=NAMES)
def test_each_scope_allows_what_it_is_for_and_nothing_else(
    method: str, path: str, body: object, allows: set[str]
) -> None:
    for token in TOKENS:
        guarded = Guarded()
        where = path.replace("{id}", guarded.id).replace("{other}", OTHER)
        before = guarded.daemon.directory.index
        status, _, _, content = guarded.ask(method, where, body, token)
        if token in allows:
            assert status not in (401, 403), (token, content)
        else:
            assert status == 403, (token, content)
            assert guarded.daemon.directory.index == before


@pytest.mark.parametrize(("method", "path", "body"), [row[:3] for row in REQUESTS], ids=NAMES)
def test_nothing_is_answered_without_a_known_token(method: str, path: str, body: object) -> None:
    guarded = Guarded()
    where = path.replace("{id}", guarded.id).replace("{other}", OTHER)
    before = guarded.daemon.directory.index
    missing, wrong = (guarded.ask(method, where, body, token) for token in (None, "wrong"))
    if path.startswith("/v1/"):
        assert (missing[0], missing[3]) == (403, "Permission denied: a token is required, set CONSUL_HTTP_TOKEN")
        assert (wrong[0], wrong[3]) == (403, "ACL not found: the token is unknown")
        assert not any("x-consul" in header for header in missing[2]), "no number that rises with every change"
    else:
        assert missing[:2] == (401, "authentication required")
        assert wrong[:2] == (401, "unknown token")
        assert missing[2]["www-authenticate"] == 'Basic realm="rqdisco", charset="UTF-8"'
    assert guarded.daemon.directory.index == before


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", {"addr": "b:1"}), ("DELETE", {"addr": A})])
@pytest.mark.parametrize("token", [None, "wrong", "mint", "elsewhere"])
def test_existing_and_unknown_ids_are_refused_alike(
    method: str, body: object, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = Guarded()
    looked_up: list[str] = []
    for name in ("look_up", "look_up_at_owner", "register", "remove"):
        monkeypatch.setattr(guarded.daemon.directory, name, looked_up.append)
    known = guarded.ask(method, f"/{guarded.id}", body, token)
    unknown = guarded.ask(method, f"/{OTHER[::-1]}", body, token)
    assert known == (*unknown[:3], unknown[3].replace(OTHER[::-1], guarded.id))
    assert known[0] in (401, 403)
    assert looked_up == [], "so the time is the same"


def test_a_refusal_names_the_missing_scope_and_never_repeats_a_token() -> None:
    guarded = Guarded()
    status, reason, _, content = guarded.ask("POST", f"/{guarded.id}", {"addr": A}, "read")
    assert (status, reason) == (403, "token may not do this")
    assert json.loads(content) == {"error": f"token may not write {guarded.id}"}
    assert json.loads(guarded.ask("POST", "/", None, "read")[3]) == {"error": "token may not mint"}
    assert json.loads(guarded.ask("GET", "/operator/export", None, "write")[3]) == {"error": "token may not administer"}


@pytest.mark.parametrize("path", ["/{id}", "/v1/kv/{id}/leader"])
def test_a_token_is_read_from_bearer_from_the_basic_password_and_from_consuls_header(path: str) -> None:
    guarded = Guarded()
    where = path.replace("{id}", guarded.id)
    right, wrong = secret("read"), secret("wrong")
    basic = base64.b64encode(f"anybody:{right}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {right}"},
        {"authorization": f"bearer  {right}"},
        {"Authorization": f"Basic {basic}"},
        {"X_Consul_Token": right},
        {"X_Consul_Token": right, "Authorization": f"Basic {base64.b64encode(b'for:a proxy').decode()}"},
        {"X_Consul_Token": "", "Authorization": f"Basic {basic}"},
    ):
        assert guarded.ask("GET", where, headers=headers)[0] in (200, 404), headers
    for headers in (
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": right},
        {"Authorization": f"Digest {right}"},
        {"Authorization": "Basic ***"},
        {"Authorization": f"Basic {base64.b64encode(right.encode()).decode()}"},
        {"Authorization": f"Basic {base64.b64encode(f'{right}:'.encode()).decode()}"},
        {"X_Consul_Token": wrong},
        {"Cookie": right},
    ):
        assert guarded.ask("GET", where, headers=headers)[0] in (401, 403), headers
    assert guarded.ask("GET", f"{where}?token={right}")[0] in (401, 403), "a query string is in logs"


def test_a_probe_needs_no_token_and_shows_no_ids() -> None:
    guarded = Guarded()
    assert json.loads(guarded.ask("GET", "/")[3]) == {"name": "rqdisco", "version": "0", "uptime": 0}
    guarded.daemon.recount()
    assert json.loads(guarded.ask("GET", "/", None, "read-here")[3])["ids"] == 1
    assert guarded.ask("GET", "/", None, "wrong")[0] == 401
    assert guarded.ask("HEAD", "/")[0] == 200


def test_only_an_admin_gets_the_reasons() -> None:
    guarded = Guarded()
    assert "told" in json.loads(guarded.ask("GET", f"/{guarded.id}?explain=1", None, "admin")[3])
    assert "told" not in json.loads(guarded.ask("GET", f"/{guarded.id}?explain=1", None, "read")[3])


def test_the_operator_socket_needs_no_token() -> None:
    guarded = Guarded()
    for method, path in (("POST", "/"), ("GET", f"/{guarded.id}?explain=1"), ("GET", "/operator/export")):
        assert guarded.ask(method, path, operators=True)[0] == 200
    assert guarded.ask("PUT", "/v1/kv/new/leader", VALUE, operators=True)[0] == 200


def test_only_an_admin_imports_more_than_the_body_limit() -> None:
    guarded = Guarded()
    records = [{"id": f"n{number}", "created_at": 1, "nodes": [{"addr": "x" * 200}]} for number in range(20)]
    status, _, _, content = guarded.ask("POST", "/operator/import", {"records": records}, "admin")
    assert (status, json.loads(content)["imported"]) == (200, 20)
    assert guarded.ask("POST", "/operator/import", {"records": records}, "write")[0] == 403
    assert guarded.ask("POST", f"/{guarded.id}", {"addr": "x", "more": "x" * MAX_BODY}, "admin")[0] == 413
    assert guarded.ask("POST", f"/{guarded.id}", {"addr": "x", "more": "x" * MAX_BODY}, "write")[0] == 413


def test_the_log_line_of_each_change_has_the_name_of_the_token(log: list[dict[str, Any]]) -> None:
    guarded = Guarded()
    guarded.ask("POST", "/", None, "mint")
    guarded.ask("POST", f"/{guarded.id}", {"addr": "b:1"}, "write-here")
    guarded.ask("DELETE", f"/{guarded.id}", {"addr": "b:1"}, "write")
    guarded.ask("PUT", "/v1/kv/new/leader?cas=0", VALUE, "write")
    guarded.ask("PUT", f"/v1/kv/{guarded.id}/leader", VALUE, "write-here")
    guarded.ask("DELETE", f"/v1/kv/{guarded.id}/leader", None, "admin")
    guarded.ask("GET", "/operator/export", None, "admin")
    guarded.ask("POST", "/operator/import", {"records": []}, "admin")
    changes = [(event["log_format"], event["token"]) for event in log if "token" in event]
    assert changes == [
        ("create", "mint"),
        ("registration", "write-here"),
        ("removal", "write"),
        ("claim", "write"),
        ("leader report", "write-here"),
        ("leader removal", "admin"),
        ("export", "admin"),
        ("import", "admin"),
    ]
    assert not any(secret("") in str(event) for event in log)


def test_a_reloaded_ring_takes_effect() -> None:
    guarded = Guarded()
    assert guarded.ask("GET", f"/{guarded.id}", None, "read")[0] == 200
    guarded.access.ring = TokenRing([describe("new", ["read"], secret("new"))])
    assert guarded.ask("GET", f"/{guarded.id}", None, "read")[0] == 401
    assert guarded.ask("GET", f"/{guarded.id}", None, "new")[0] == 200


def _probe(guarded: Guarded, path: str, token: str | None, *, operators: bool = False) -> tuple[int, Any]:
    status, _, _, body = guarded.ask("GET", path, None, token, operators=operators)
    return status, json.loads(body)
