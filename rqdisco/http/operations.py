"""The columns of the table of routes: paths, their methods, and the answers to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from rqdisco.http.requests.api import Api
from rqdisco.http.requests.runner import Handler
from rqdisco.security.tokens import Right
from rqdisco.telemetry.counters import Route

JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html"
EVENTS = "text/event-stream"

# Whom a listener serves: every client, clients with a token, the operator.
Audience = Literal["open", "guarded", "operator"]
ALL_AUDIENCES: tuple[Audience, ...] = ("open", "guarded", "operator")
# How large the body of a request may be: it is ignored, has at most `--max-body`, or is a part of
# an export.
BodyLimit = Literal["none", "max-body", "import"]

# Any: a part of a JSON document of free form, which is only assembled and encoded.
Object = dict[str, Any]
STRING: Object = {"type": "string"}
# A discovery ID, as a pattern of JSON Schema.
ID_PATTERN = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$"


class Parameter(msgspec.Struct, frozen=True):
    """An optional parameter of a request."""

    name: str
    description: str
    schema: Object = msgspec.field(default_factory=lambda: STRING)
    location: Literal["query", "header"] = "query"


class ResponseHeader(msgspec.Struct, frozen=True):
    """A header of a response."""

    name: str
    description: str
    schema: Object = msgspec.field(default_factory=lambda: STRING)
    is_required: bool = True


class ResponseSpec(msgspec.Struct, frozen=True):
    """A response: when it is sent, the type of its content, and its headers.

    `content` is a type that msgspec describes, several of them, a JSON schema, or None for an
    answer without content. `text` describes the same content as text, where the client asks for
    that.
    """

    description: str
    # Any: msgspec describes any type.
    content: Any = None
    headers: Sequence[ResponseHeader] = ()
    media_type: str = JSON
    text: Object | None = None


class Operation(msgspec.Struct, frozen=True):
    """One method of a path.

    `right` is what a caller's token must allow where tokens are required; None if none is needed.
    With `token_optional` a token is checked only where one is sent. GET includes HEAD if
    `has_head`. `is_streamed` means that the status is sent before the operation can fail. `cost` is
    in lookups. `page` renders HTML for clients that prefer it. With `runs_to_end` there is no
    deadline, and the operation is not cancelled when the client goes. `body` limits the size of
    the body, `body_type` is its type. `responses` maps a status to a ResponseSpec, or to the
    description of an error. `is_creation` means that the variable of the path names what the
    operation creates, so only the handler checks it. Operations without `summary` are not documented.
    """

    method: str
    # A method of the endpoint's API, without its instance. Any: its arguments are the request, the
    # variable of the path if it has one, and the token.
    handler: Callable[..., Handler]
    name: str = ""
    summary: str = ""
    description: str = ""
    right: Right | None = None
    token_optional: bool = False
    has_head: bool = True
    # A method of `Pages`, which is called without a token.
    page: Callable[..., Handler] | None = None
    runs_to_end: bool = False
    is_streamed: bool = False
    is_creation: bool = False
    cost: float = 1.0
    body: BodyLimit = "none"
    # Any: the type of the body, which msgspec describes.
    body_type: Any = None
    requires_body: bool = True
    parameters: Sequence[Parameter] = ()
    responses: Mapping[int, ResponseSpec | str] = msgspec.field(default_factory=dict)
    links: Mapping[str, str] = msgspec.field(default_factory=dict)


class Endpoint(msgspec.Struct, frozen=True):
    """A path and its methods.

    `path` may have one variable, with one of the router's converters: `id` is a segment that is no
    reserved name. `label` is what metrics count it as, with the API's name first. `audiences` are
    those that have it.
    """

    path: str
    label: Route
    api: type[Api]
    operations: Sequence[Operation]
    audiences: tuple[Audience, ...] = ALL_AUDIENCES
