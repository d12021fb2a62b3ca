"""What an entry of the document is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from rqdisco.security.tokens import Right

JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html"
EVENTS = "text/event-stream"

# A door says no in its own words: the discovery API in JSON, consul-kv in one line of text.
Words = Literal["json", "text"]
# Who is served there: everybody, whoever has a token, the operator.
Audience = Literal["open", "guarded", "operator"]

Object = dict[str, Any]


class ResponseSpec(msgspec.Struct, frozen=True):
    """An answer: when it is given, its content by media type, and headers as `header` makes
    them.
    """

    description: str
    content: Mapping[str, Object] = msgspec.field(default_factory=dict)
    headers: Mapping[str, Object] = msgspec.field(default_factory=dict)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    `right` is what a caller's token must allow where tokens are needed; None if none is needed,
    "known" with `is_optional` if one is looked at where it is given. `head` says that HEAD is
    answered likewise, `has_page` that who prefers HTML gets a page with the same status,
    `audiences` where all of it is answered.
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
    words: Words = "json"
    right: Right | None = None
    is_optional: bool = False
    head: bool = False
    has_page: bool = False
    audiences: tuple[Audience, ...] = ("open", "guarded", "operator")
    links: Mapping[str, Object] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> str:
        """What its examples go by."""
        return f"{self.method.upper()} {self.path}"


def schema(name: str) -> Object:
    """A reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def json(name: str) -> dict[str, Object]:
    """Content that is JSON of that schema."""
    return {JSON: schema(name)}


def body(of: Object, *, is_required: bool = True) -> Object:
    """The body of a request. What its Content-Type says does not matter, so only one is named."""
    return {"required": is_required, "content": {JSON: {"schema": of}}}


def flag_parameter(name: str, description: str) -> Object:
    """A parameter of the query that is on if it says `1`, or nothing, and off if it says anything
    else.
    """
    return query(name, f"{description} On if it is `1` or empty; anything else is as if it were not there.", TEXTUAL)


def query(name: str, description: str, of: Object) -> Object:
    """A parameter of the query, which need not be there."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": of}


def asked(name: str, description: str) -> Object:
    """A header of a request, which need not be there."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": TEXTUAL}


def header(description: str, of: Object, *, is_required: bool = True) -> Object:
    """A header of an answer."""
    return {"description": description, "required": is_required, "schema": of}


TEXTUAL: Object = {"type": "string"}
RETRY_AFTER = {"Retry-After": header("Seconds after which to ask again.", {"type": "integer", "minimum": 1})}


def error(description: str) -> ResponseSpec:
    """What the discovery API and the operator's say where something went wrong."""
    return ResponseSpec(description, json("Error"))


def unavailable(description: str) -> ResponseSpec:
    """503, as those say it."""
    return ResponseSpec(description, json("Unavailable"), RETRY_AFTER)


def line(description: str, headers: Mapping[str, Object] | None = None) -> ResponseSpec:
    """One line of text, as consul-kv says what went wrong."""
    return ResponseSpec(description, {TEXT: {"type": "string", "minLength": 1}}, headers or {})


def either(one: ResponseSpec | None, other: ResponseSpec) -> ResponseSpec:
    """What is said of a status that has two meanings."""
    if one is None:
        return other
    headers = {name: of for name, of in one.headers.items() if name in other.headers}
    return ResponseSpec(f"{one.description} Or: {other.description}", {**other.content, **one.content}, headers)


FAULT = error("A fault of the daemon's; it is in its log.")
FOREIGN = error("A browser asks, for a page of another site.")
