"""Building blocks of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from rqdisco.security.tokens import Right

JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html"
EVENTS = "text/event-stream"

# The discovery API formats errors as JSON, consul-kv as one line of text.
ErrorFormat = Literal["json", "text"]
# Whom a listener serves: every client, clients with a token, the operator.
Audience = Literal["open", "guarded", "operator"]

# Any: a part of a JSON document of free form, which is only assembled and encoded.
Object = dict[str, Any]


class ResponseSpec(msgspec.Struct, frozen=True):
    """A response: when it is sent, its content by media type, and headers as `response_header`
    makes them.
    """

    description: str
    content: Mapping[str, Object] = msgspec.field(default_factory=dict)
    headers: Mapping[str, Object] = msgspec.field(default_factory=dict)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    `right` is what a caller's token must allow where tokens are required; None if none is needed,
    "known" with `is_optional` if a token is checked where one is sent. `head` adds HEAD, `has_page`
    a page with the same status for clients that prefer HTML. `audiences` lists the listeners that
    support the operation.
    """

    path: str
    method: str
    tag: str
    name: str
    summary: str
    replies: Mapping[int, ResponseSpec]
    description: str = ""
    parameters: Sequence[Object] = ()
    body: Object | None = None
    error_format: ErrorFormat = "json"
    right: Right | None = None
    is_optional: bool = False
    head: bool = False
    has_page: bool = False
    audiences: tuple[Audience, ...] = ("open", "guarded", "operator")
    links: Mapping[str, Object] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of its examples."""
        return f"{self.method.upper()} {self.path}"


def schema(name: str) -> Object:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_content(name: str) -> dict[str, Object]:
    """JSON content of a schema."""
    return {JSON: schema(name)}


def request_body(of: Object, *, is_required: bool = True) -> Object:
    """The body of a request. Its Content-Type is ignored, so only one is documented."""
    return {"required": is_required, "content": {JSON: {"schema": of}}}


def flag_parameter(name: str, description: str) -> Object:
    """A query parameter that is on if its value is `1` or empty, and off for any other value."""
    return query_parameter(name, f"{description} On if `1` or empty; any other value is ignored.", STRING)


def query_parameter(name: str, description: str, of: Object) -> Object:
    """An optional query parameter."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": of}


def header_parameter(name: str, description: str) -> Object:
    """An optional header of a request."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": STRING}


def response_header(description: str, of: Object, *, is_required: bool = True) -> Object:
    """A header of a response."""
    return {"description": description, "required": is_required, "schema": of}


STRING: Object = {"type": "string"}
RETRY_AFTER = {"Retry-After": response_header("Seconds to wait before a retry.", {"type": "integer", "minimum": 1})}


def json_error(description: str) -> ResponseSpec:
    """An error of the discovery API or the operator's."""
    return ResponseSpec(description, json_content("Error"))


def json_unavailable(description: str) -> ResponseSpec:
    """503 of the discovery API or the operator's."""
    return ResponseSpec(description, json_content("Unavailable"), RETRY_AFTER)


def text_error(description: str, headers: Mapping[str, Object] | None = None) -> ResponseSpec:
    """An error of consul-kv: one line of text."""
    return ResponseSpec(description, {TEXT: {"type": "string", "minLength": 1}}, headers or {})


def merge(one: ResponseSpec | None, other: ResponseSpec) -> ResponseSpec:
    """Merge the two meanings of one status."""
    if one is None:
        return other
    headers = {name: of for name, of in one.headers.items() if name in other.headers}
    return ResponseSpec(f"{one.description} Or: {other.description}", {**other.content, **one.content}, headers)


INTERNAL_ERROR = json_error("An internal error, which is logged.")
CROSS_SITE = json_error("A browser sent the request for a page of another site.")
