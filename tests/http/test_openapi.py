"""The OpenAPI document matches the answers, completely and exactly: each documented answer is
produced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from rqdisco.core.ids import RESERVED_IDS
from rqdisco.http.openapi.document import build, encode_openapi
from rqdisco.http.openapi.examples import EXAMPLES
from rqdisco.http.operations import Audience, Object
from rqdisco.http.routes import ENDPOINTS
from tests.support.openapi import AUDIENCES, Exchange, examples, exchanges
from tests.support.prepared_daemons import Reply, broken, daemon_for, hurried

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE")
PLAYED = [
    pytest.param(audience, exchange, id=f"{audience} {exchange.name}")
    for audience in AUDIENCES
    for exchange in exchanges(audience)
]


def operations(audience: Audience) -> Iterator[tuple[str, str, Object]]:
    """Yield each method and path, and its documentation."""
    for path, methods in build(audience)["paths"].items():
        for method, entry in methods.items():
            yield method.upper(), path, entry


def strict(of: Any) -> Any:
    """Return the schema with no additional members allowed."""
    if isinstance(of, list):
        return [strict(each) for each in of]
    if not isinstance(of, dict):
        return of
    closed = {name: strict(value) for name, value in of.items()}
    return {**closed, "additionalProperties": False} if isinstance(of.get("properties"), dict) else closed


def check(audience: Audience, of: Object, value: Any) -> None:
    components = strict(build(audience)["components"])
    Draft202012Validator({**strict(of), "components": components}).validate(value)


def check_reply(audience: Audience, described: Object, reply: Reply, *, has_content: bool) -> None:
    """Raise where the answer does not match the document."""
    for name, header in described.get("headers", {}).items():
        value = reply.headers.get(name.lower())
        assert value is not None or not header["required"], f"{name} is missing"
        if value is not None:
            check(audience, header["schema"], int(value) if header["schema"].get("type") == "integer" else value)
    if not has_content or "content" not in described:
        assert reply.body == b""
        return
    content = described["content"][reply.kind]
    is_json = reply.kind == "application/json"
    check(audience, content["schema"], msgspec.json.decode(reply.body) if is_json else reply.body.decode())


def expect_a_bug(exchange: Exchange, logged_errors: list[dict[str, Any]]) -> None:
    if exchange.prepare is broken:
        assert logged_errors
        logged_errors.clear()


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize(("audience", "exchange"), PLAYED)
def test_an_answer_matches_the_document(
    audience: Audience, exchange: Exchange, logged_errors: list[dict[str, Any]]
) -> None:
    methods = build(audience)["paths"][exchange.path]
    reply = exchange.play(audience)
    assert reply.status == exchange.status, reply
    check_reply(audience, methods[exchange.method.lower()]["responses"][str(exchange.status)], reply, has_content=True)
    if exchange.method == "GET" and "head" in methods:
        reply = exchange.play(audience, "HEAD")
        assert reply.status == exchange.status, reply
        check_reply(audience, methods["head"]["responses"][str(exchange.status)], reply, has_content=False)
    expect_a_bug(exchange, logged_errors)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_each_documented_answer_occurs(audience: Audience) -> None:
    described = {
        (method, path, int(status)) for method, path, entry in operations(audience) for status in entry["responses"]
    }
    played = {(exchange.method, exchange.path, exchange.status) for exchange in exchanges(audience)}
    assert {each for each in described if each[0] != "HEAD"} == played


@pytest.mark.usefixtures("each_backend")
def test_a_client_that_creates_too_many_ids_gets_a_retry_time_and_is_served_after_it() -> None:
    prepare = hurried("open")
    refused = prepare.ask("POST", "/")
    assert refused.status == 429
    prepare.clock.advance(int(refused.headers["retry-after"]))
    assert prepare.ask("POST", "/").status == 200


@pytest.mark.usefixtures("each_backend")
def test_an_operator_creates_ids_without_limit_and_without_a_limit_in_the_document() -> None:
    assert hurried("operator").ask("POST", "/").status == 200
    for path, method in (("/", "post"), ("/{id}", "put")):
        described = {audience: "429" in build(audience)["paths"][path][method]["responses"] for audience in AUDIENCES}
        assert described == {"open": True, "guarded": True, "operator": False}


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_document_has_every_method_that_is_answered(audience: Audience) -> None:
    prepare = daemon_for(audience)
    for path, methods in build(audience)["paths"].items():
        accept = "text/html" if path == "/status" else "*/*"
        answered = {method for method in METHODS if prepare.ask(method, path, {}, Accept=accept).status != 405}
        assert answered == {method.upper() for method in methods}, path
        refused = prepare.ask("PATCH", path, {})
        allowed = set(refused.headers["allow"].split(", "))
        assert allowed | {"HEAD"} == answered | {"HEAD"}, path


def test_the_document_has_each_path_but_those_of_pages_files_and_keys_that_no_id_has() -> None:
    paths = {endpoint.path.replace("<id:discovery_id>", "{id}") for endpoint in ENDPOINTS}
    pages = {"/clusters", "/help", "/help/api"}
    assert paths - pages - {"/static/<path:name>", "/v1/kv", "/v1/kv/<key:key>"} == set(build("operator")["paths"])


def test_each_member_that_needs_words_has_a_description() -> None:
    schemas = build("operator")["components"]["schemas"]
    assert all(schema["description"] for schema in schemas.values())
    described = {name for name, of in schemas["RegisteredNode"]["properties"].items() if "description" in of}
    assert {"unresolved", "since", "checked", "unconfirmed", "alone", "heard"} <= described


@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_document_has_nothing_that_only_another_audience_is_answered(audience: Audience) -> None:
    prepare = daemon_for(audience)
    elsewhere = set(build("operator")["paths"]) - set(build(audience)["paths"])
    assert (
        elsewhere
        == {
            "open": {path for path in build("operator")["paths"] if path.startswith("/operator/")} | {"/metrics"},
            "guarded": {"/metrics"},
            "operator": set(),
        }[audience]
    )
    assert {prepare.ask("GET", path).status for path in elsewhere} <= {404}


@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_document_is_valid_and_served_unchanged(audience: Audience) -> None:
    validate(build(audience))
    reply = daemon_for(audience).ask("GET", "/openapi.json", token=None)
    assert (reply.status, reply.body) == (200, encode_openapi(audience))
    assert reply.headers["cache-control"] == "no-cache"


@pytest.mark.usefixtures("each_backend")
def test_tokens_are_required_as_documented() -> None:
    for method, path, entry in operations("guarded"):
        asked = daemon_for("guarded").ask(method, path, {}, token=None)
        is_needed = "security" in entry and {} not in entry["security"]
        assert (asked.status in (401, 403)) == is_needed, (method, path)
    assert not any("security" in entry for audience in ("open", "operator") for *_, entry in operations(audience))


def test_a_client_with_the_current_document_gets_304() -> None:
    prepare = daemon_for("open")
    first = prepare.ask("GET", "/openapi.json")
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        reply = prepare.ask("GET", "/openapi.json", If_None_Match=known)
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", tag)
        assert reply.headers["content-length"] == first.headers["content-length"]
    for other in ('"other"', "", tag.strip('"')):
        assert prepare.ask("GET", "/openapi.json", If_None_Match=other).status == 200
    assert len({daemon_for(audience).ask("GET", "/openapi.json").headers["etag"] for audience in AUDIENCES}) == 3


@pytest.mark.parametrize("path", ["//openapi.json", "/openapi.json/", "/openapi.json?x=1"])
def test_slashes_and_queries_do_not_matter(path: str) -> None:
    assert daemon_for("open").ask("GET", path).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_document_can_only_be_read(method: str) -> None:
    reply = daemon_for("open").ask(method, "/openapi.json")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


def test_an_id_may_have_dots_and_look_like_a_document() -> None:
    assert "openapi.json" in RESERVED_IDS
    prepare = daemon_for("open")
    for name in ("openapi.json1", "api.json", "openapi"):
        assert prepare.ask("PUT", f"/v1/kv/{name}/leader", {"addr": "h:1"}).body == b"true"
        assert prepare.ask("GET", f"/{name}").status == 200


def test_the_examples_are_real_answers() -> None:
    """`python -m tests.support.openapi` writes them."""
    assert examples() == EXAMPLES, "rewrite them: python -m tests.support.openapi"
