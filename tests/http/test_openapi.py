"""The OpenAPI document says what is answered, all of it and nothing else: each answer it speaks of
is brought about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from rqdisco.core import exports
from rqdisco.core.ids import RESERVED_IDS
from rqdisco.http.api import consul
from rqdisco.http.api.admin import OperatorAPI
from rqdisco.http.api.consul import ConsulAPI
from rqdisco.http.api.discovery import DiscoveryAPI
from rqdisco.http.middleware import Middleware
from rqdisco.http.openapi.document import build, encode_openapi
from rqdisco.http.openapi.examples import EXAMPLES
from rqdisco.http.openapi.parts import Audience, Object
from rqdisco.http.requests import documents
from rqdisco.http.router import Router
from rqdisco.probes.probe_state import ALIVE, Outcome
from tests.support.openapi import AUDIENCES, Scene, examples, scenes
from tests.support.places import Reply, broken, daemon_for, hurried

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
PLAYED = [
    pytest.param(audience, scene, id=f"{audience} {scene.name}") for audience in AUDIENCES for scene in scenes(audience)
]


def documented(audience: Audience) -> Iterator[tuple[str, str, Object]]:
    """Each method and path, and what is said of it."""
    for path, methods in build(audience)["paths"].items():
        for method, entry in methods.items():
            yield method.upper(), path, entry


def strict(of: Any) -> Any:
    """The schema with nothing allowed that it does not name."""
    if isinstance(of, list):
        return [strict(each) for each in of]
    if not isinstance(of, dict):
        return of
    closed = {name: strict(value) for name, value in of.items()}
    return {**closed, "additionalProperties": False} if isinstance(of.get("properties"), dict) else closed


def check(audience: Audience, of: Object, value: Any) -> None:
    components = strict(build(audience)["components"])
    Draft202012Validator({**strict(of), "components": components}).validate(value)


def check_reply(audience: Audience, said: Object, reply: Reply, *, has_content: bool) -> None:
    """Raise where the answer is not as the document says."""
    for name, header in said.get("headers", {}).items():
        value = reply.headers.get(name.lower())
        assert value is not None or not header["required"], f"{name} is missing"
        if value is not None:
            check(audience, header["schema"], int(value) if header["schema"].get("type") == "integer" else value)
    if not has_content or "content" not in said:
        assert reply.body == b""
        return
    content = said["content"][reply.kind]
    is_json = reply.kind == "application/json"
    check(audience, content["schema"], msgspec.json.decode(reply.body) if is_json else reply.body.decode())


def expect_a_bug(scene: Scene, logged_errors: list[dict[str, Any]]) -> None:
    if scene.place is broken:
        assert logged_errors
        logged_errors.clear()


@pytest.mark.parametrize(("audience", "scene"), PLAYED)
def test_an_answer_is_as_the_document_says(
    audience: Audience, scene: Scene, logged_errors: list[dict[str, Any]]
) -> None:
    methods = build(audience)["paths"][scene.path]
    reply = scene.play(audience)
    assert reply.status == scene.status, reply
    check_reply(audience, methods[scene.method.lower()]["responses"][str(scene.status)], reply, has_content=True)
    if scene.method == "GET" and "head" in methods:
        reply = scene.play(audience, "HEAD")
        assert reply.status == scene.status, reply
        check_reply(audience, methods["head"]["responses"][str(scene.status)], reply, has_content=False)
    expect_a_bug(scene, logged_errors)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_each_answer_that_the_document_speaks_of_is_given(audience: Audience) -> None:
    said = {
        (method, path, int(status)) for method, path, entry in documented(audience) for status in entry["responses"]
    }
    played = {(scene.method, scene.path, scene.status) for scene in scenes(audience)}
    assert {each for each in said if each[0] != "HEAD"} == played


def test_who_mints_too_much_is_told_when_to_ask_again_and_is_served_then() -> None:
    place = hurried("open")
    refused = place.ask("POST", "/")
    assert refused.status == 429
    place.clock.advance(int(refused.headers["retry-after"]))
    assert place.ask("POST", "/").status == 200


def test_an_operator_mints_as_much_as_he_likes_and_reads_nothing_of_a_limit() -> None:
    assert hurried("operator").ask("POST", "/").status == 200
    said = {audience: "429" in build(audience)["paths"]["/"]["post"]["responses"] for audience in AUDIENCES}
    assert said == {"open": True, "guarded": True, "operator": False}


@pytest.mark.parametrize("audience", AUDIENCES)
def test_of_each_path_the_methods_that_are_answered_are_in_the_document(audience: Audience) -> None:
    place = daemon_for(audience)
    for path, methods in build(audience)["paths"].items():
        accept = "text/html" if path == "/status" else "*/*"
        answered = {method for method in METHODS if place.ask(method, path, {}, Accept=accept).status != 405}
        assert answered == {method.upper() for method in methods}, path
        refused = place.ask("PATCH", path, {})
        allowed = set(refused.headers["allow"].split(", "))
        assert allowed | {"HEAD"} == answered | {"HEAD"}, path


def test_each_route_of_each_door_is_in_the_document() -> None:
    klein = {"<path:discovery_id>": "{id}", "<path:key>": "{id}/leader"}
    routes = set()
    for door in (DiscoveryAPI, ConsulAPI, OperatorAPI):
        for rule in door.app.url_map.iter_rules():
            path = rule.rule
            for name, stands_for in klein.items():
                path = path.replace(name, stands_for)
            routes.add(path)
    # Which is there to say that no key was named.
    routes.remove("/v1/kv/")
    root = daemon_for("operator")._resource
    assert isinstance(root, Middleware)
    behind = root._apis
    assert isinstance(behind, Router)
    pages = {f"/{name.decode()}" for name in behind._pages}
    # Which are answered before any door.
    pages |= {"/{id}/events", "/status"}
    assert routes | pages == set(build("operator")["paths"])


# Only said to who watches an ID, which the document does not describe: such an answer does not end.
_OF_EVENTS = {"alone", "heard"}


def test_each_member_that_an_answer_can_have_is_in_the_document() -> None:
    """Also those that no scene brings about yet."""
    schemas = build("operator")["components"]["schemas"]
    full = schemas["FullDocument"]["properties"]
    for answered, said in (
        (documents.LegacyDocument, schemas["Document"]["properties"]),
        (documents.FullDocument, full),
        (documents.ServiceDocument, schemas["Service"]["properties"]),
        (documents.RegisteredNode, full["registrations"]["items"]["properties"]),
        (documents.LeaderDocument, full["leader"]["properties"]),
        (documents.ClaimDocument, full["claim"]["properties"]),
        (consul._KVEntry, schemas["Entries"]["items"]["properties"]),
        (exports.ExportedLeader, schemas["Record"]["properties"]["leader"]["properties"]),
        (exports.TransferredRecord, schemas["Record"]["properties"]),
    ):
        assert {field.encode_name for field in msgspec.structs.fields(answered)} - _OF_EVENTS == set(said)
    seen = full["registrations"]["items"]["properties"]["why"]["enum"]
    assert set(get_args(Outcome)) - ALIVE - {"unresolved"} == set(seen)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_what_only_others_are_answered_is_not_in_the_document(audience: Audience) -> None:
    place = daemon_for(audience)
    elsewhere = set(build("operator")["paths"]) - set(build(audience)["paths"])
    assert (
        elsewhere
        == {
            "open": {path for path in build("operator")["paths"] if path.startswith("/operator/")} | {"/metrics"},
            "guarded": {"/metrics"},
            "operator": set(),
        }[audience]
    )
    assert {place.ask("GET", path).status for path in elsewhere} <= {404}


@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_document_is_valid_and_served_as_it_is(audience: Audience) -> None:
    validate(build(audience))
    reply = daemon_for(audience).ask("GET", "/openapi.json", token=None)
    assert (reply.status, reply.body) == (200, encode_openapi(audience))
    assert reply.headers["cache-control"] == "no-cache"


def test_tokens_are_asked_for_as_the_document_says() -> None:
    for method, path, entry in documented("guarded"):
        asked = daemon_for("guarded").ask(method, path, {}, token=None)
        is_needed = "security" in entry and {} not in entry["security"]
        assert (asked.status in (401, 403)) == is_needed, (method, path)
    assert not any("security" in entry for audience in ("open", "operator") for *_, entry in documented(audience))


def test_who_has_the_document_is_told_that_it_is_the_same() -> None:
    place = daemon_for("open")
    first = place.ask("GET", "/openapi.json")
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        reply = place.ask("GET", "/openapi.json", If_None_Match=known)
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", tag)
        assert reply.headers["content-length"] == first.headers["content-length"]
    for other in ('"other"', "", tag.strip('"')):
        assert place.ask("GET", "/openapi.json", If_None_Match=other).status == 200
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
    place = daemon_for("open")
    for name in ("openapi.json1", "api.json", "openapi"):
        assert place.ask("PUT", f"/v1/kv/{name}/leader", {"addr": "h:1"}).body == b"true"
        assert place.ask("GET", f"/{name}").status == 200


def test_the_examples_are_what_is_answered() -> None:
    """`python -m tests.support.openapi` writes them."""
    assert examples() == EXAMPLES, "write them anew: python -m tests.support.openapi"
