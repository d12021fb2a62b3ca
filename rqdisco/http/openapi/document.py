"""The OpenAPI document of each listener: its operations, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from rqdisco import __version__
from rqdisco.http.openapi import admin, consul, discovery, ui
from rqdisco.http.openapi.examples import EXAMPLES
from rqdisco.http.openapi.parts import (
    CROSS_SITE,
    HTML,
    JSON,
    STRING,
    Audience,
    Object,
    Operation,
    ResponseSpec,
    flag_parameter,
    json_content,
    json_error,
    merge,
    response_header,
    schema,
    text_error,
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
    " within 8 seconds. Doubled and trailing slashes, unknown parameters and the Content-Type of a request are ignored."
    " Clients that prefer HTML to JSON get pages for people."
    " Any other method of a path is 405; of `/{id}`, 404 if the ID does not exist."
    " A listener on loopback without tokens answers 403 if the Host is not a name of this machine."
)
_TAGS = {
    "discovery": "The protocol of rqlite 3.12 to 6.10 and the `rqdisco` command.",
    "consul-kv": "The protocol of rqlite 7 to 10.",
    "health": "For load balancers and supervisors.",
    "operator": "For the operator of the daemon.",
    "documents": "This document, and the state of the daemon.",
}
_SCHEMES: Object = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The token is the password; any user name will do."},
    "consul": {"type": "apiKey", "in": "header", "name": "X-Consul-Token"},
}
_ANY_TOKEN: list[Object] = [{name: []} for name in _SCHEMES]
_CHALLENGE = {"WWW-Authenticate": response_header("Basic is accepted.", STRING)}
_UNAUTHENTICATED = ResponseSpec("No valid token was sent.", json_content("Error"), _CHALLENGE)


def encode_openapi(audience: Audience) -> bytes:
    """Encode the document of an audience as JSON."""
    return msgspec.json.encode(build(audience))


def build(audience: Audience) -> Object:
    """Build the document of an audience."""
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
    """The operations of an audience, with all their responses."""
    for operation in OPERATIONS:
        if audience in operation.audiences:
            yield _for_audience(operation, audience)


def _for_audience(operation: Operation, audience: Audience) -> Operation:
    replies, parameters = dict(operation.replies), list(operation.parameters)
    if operation.name == "show" and audience != "open":
        # Other clients cannot set it.
        scope = "" if audience == "operator" else " Requires the scope `admin`."
        parameters.append(flag_parameter("explain", f"Explain the answer, for operators.{scope}"))
        explained = {**replies[200].content, JSON: {"anyOf": [schema("FullDocument"), schema("Explanation")]}}
        replies[200] = msgspec.structs.replace(replies[200], content=explained)
    if audience == "operator":
        # Operators are not rate-limited.
        replies.pop(429, None)
    if operation.method != "get":
        replies[403] = merge(replies.get(403), CROSS_SITE)
    if audience == "guarded" and operation.right is not None:
        for status, reply in _refusals(operation).items():
            replies[status] = merge(replies.get(status), reply)
    if operation.has_page or operation.path == "/status":
        replies = {status: _with_page(reply) for status, reply in replies.items()}
    return msgspec.structs.replace(operation, replies=dict(sorted(replies.items())), parameters=parameters)


def _refusals(operation: Operation) -> Mapping[int, ResponseSpec]:
    """The responses to a missing or insufficient token."""
    if operation.error_format == "text":
        # Consul's own texts, without its headers.
        return {403: text_error("The token is unknown, or lacks the right.")}
    if operation.right == "known":
        return {401: _UNAUTHENTICATED}
    return {401: _UNAUTHENTICATED, 403: json_error("The token lacks the right, whether or not the ID exists.")}


def _with_page(reply: ResponseSpec) -> ResponseSpec:
    return msgspec.structs.replace(reply, content={**reply.content, HTML: STRING})


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
    example = EXAMPLES.get(f"{operation.key} {status} {kind}")
    return {"schema": of} if example is None else {"schema": of, "example": example}


def _head(operation: Operation, entry: Object) -> Object:
    """The HEAD operation of a GET operation."""
    responses = {
        status: {name: value for name, value in response.items() if name not in ("content", "links")}
        for status, response in entry["responses"].items()
    }
    head = {**entry, "operationId": f"{operation.name}Head", "responses": responses}
    return {**head, "summary": f"{operation.summary} Without content."}
