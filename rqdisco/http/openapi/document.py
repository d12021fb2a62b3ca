"""The document: all operations that are answered where somebody asks, with what they have in
common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from rqdisco import __version__
from rqdisco.http.openapi import admin, consul, discovery, ui
from rqdisco.http.openapi.examples import EXAMPLES
from rqdisco.http.openapi.parts import (
    FOREIGN,
    HTML,
    JSON,
    TEXTUAL,
    Audience,
    Object,
    Operation,
    ResponseSpec,
    either,
    error,
    flag_parameter,
    header,
    json,
    line,
    schema,
)
from rqdisco.http.openapi.schemas import SCHEMAS

OPERATIONS: tuple[Operation, ...] = (
    *discovery.OPERATIONS,
    *consul.OPERATIONS,
    *ui.OPERATIONS,
    *admin.OPERATIONS,
)

_ABOUT = (
    "A discovery service for rqlite. Success is always 200, there are no redirects, and every request is answered"
    " within 8 seconds. Doubled and trailing slashes are ignored, and so are parameters that are not named here and"
    " what the Content-Type of a request says. Who prefers HTML to JSON gets pages for people."
    " Any other method of a path is 405; of `/{id}`, 404 if there is no such ID."
    " A listener on loopback without tokens answers 403 to what has a Host that is not this machine's."
)
_TAGS = {
    "discovery": "What rqlite 3.12 to 6.10 speak, and the `rqdisco` command.",
    "consul-kv": "What rqlite 7 to 10 speak.",
    "health": "For balancers and supervisors.",
    "operator": "For the operator of the daemon.",
    "documents": "About all of this.",
}
_SCHEMES: Object = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The token is the password, the name does not matter."},
    "consul": {"type": "apiKey", "in": "header", "name": "X-Consul-Token"},
}
_ANY_TOKEN: list[Object] = [{name: []} for name in _SCHEMES]
_CHALLENGE = {"WWW-Authenticate": header("Basic will do.", TEXTUAL)}
_UNAUTHENTICATED = ResponseSpec("No token that is known here was given.", json("Error"), _CHALLENGE)


def encode_openapi(audience: Audience) -> bytes:
    """The document for those who are served at a listener, as JSON."""
    return msgspec.json.encode(build(audience))


def build(audience: Audience) -> Object:
    """The document for those who are served at a listener."""
    paths: dict[str, Object] = {}
    for operation in operations(audience):
        entry = _entry(operation, audience)
        paths.setdefault(operation.path, {})[operation.method] = entry
        if operation.head:
            paths[operation.path]["head"] = _head(operation, entry)
    components: Object = {"schemas": SCHEMAS}
    if audience == "guarded":
        components["securitySchemes"] = _SCHEMES
    return {
        "openapi": "3.1.0",
        "info": {"title": "rqdisco", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": components,
    }


def operations(audience: Audience) -> Iterator[Operation]:
    """Those that are answered to them, with all that is answered."""
    for operation in OPERATIONS:
        if audience in operation.audiences:
            yield _as_answered(operation, audience)


def _as_answered(operation: Operation, audience: Audience) -> Operation:
    replies, parameters = dict(operation.replies), list(operation.parameters)
    if operation.name == "show" and audience != "open":
        # What is ignored of everybody else.
        by = "" if audience == "operator" else " Only with the scope `admin`."
        parameters.append(flag_parameter("explain", f"Why it is so, for operators.{by}"))
        explained = {**replies[200].content, JSON: {"anyOf": [schema("FullDocument"), schema("Explanation")]}}
        replies[200] = msgspec.structs.replace(replies[200], content=explained)
    if audience == "operator":
        # Nobody is limited there.
        replies.pop(429, None)
    if operation.method != "get":
        replies[403] = either(replies.get(403), FOREIGN)
    if audience == "guarded" and operation.right is not None:
        for status, reply in _refusals(operation).items():
            replies[status] = either(replies.get(status), reply)
    if operation.has_page or operation.path == "/status":
        replies = {status: _with_page(reply) for status, reply in replies.items()}
    return msgspec.structs.replace(operation, replies=dict(sorted(replies.items())), parameters=parameters)


def _refusals(operation: Operation) -> Mapping[int, ResponseSpec]:
    """What who has no token, or not the right one, is told."""
    if operation.words == "text":
        # In Consul's words; but for those, its headers are always there.
        return {403: line("The token is not known, or lacks the right.")}
    if operation.right == "known":
        return {401: _UNAUTHENTICATED}
    return {401: _UNAUTHENTICATED, 403: error("The token has no right to this, whether there is such an ID or not.")}


def _with_page(reply: ResponseSpec) -> ResponseSpec:
    return msgspec.structs.replace(reply, content={**reply.content, HTML: TEXTUAL})


def _entry(operation: Operation, audience: Audience) -> Object:
    entry: Object = {"operationId": operation.name, "tags": [operation.tag], "summary": operation.summary}
    if operation.description:
        entry["description"] = operation.description
    if operation.parameters:
        entry["parameters"] = list(operation.parameters)
    if operation.body is not None:
        entry["requestBody"] = _with_example(operation, operation.body)
    entry["responses"] = {
        str(status): _response(operation, status, reply) for status, reply in operation.replies.items()
    }
    if audience == "guarded" and operation.right is not None:
        entry["security"] = [{}, *_ANY_TOKEN] if operation.is_optional else _ANY_TOKEN
    return entry


def _with_example(operation: Operation, body: Object) -> Object:
    content = body["content"][JSON]
    example = EXAMPLES.get(f"{operation.key} body")
    return {**body, "content": {JSON: content if example is None else {**content, "example": example}}}


def _response(operation: Operation, status: int, reply: ResponseSpec) -> Object:
    response: Object = {"description": reply.description}
    if reply.headers:
        response["headers"] = dict(reply.headers)
    if reply.content:
        response["content"] = {kind: _content(operation, status, kind, of) for kind, of in reply.content.items()}
    if operation.links and status == 200:
        response["links"] = dict(operation.links)
    return response


def _content(operation: Operation, status: int, kind: str, of: Object) -> Object:
    example: Any = EXAMPLES.get(f"{operation.key} {status} {kind}")
    return {"schema": of} if example is None else {"schema": of, "example": example}


def _head(operation: Operation, entry: Object) -> Object:
    """The same without content."""
    responses = {
        status: {name: value for name, value in response.items() if name not in ("content", "links")}
        for status, response in entry["responses"].items()
    }
    head = {**entry, "operationId": f"{operation.name}Head", "responses": responses}
    return {**head, "summary": f"{operation.summary} Without content."}
