"""The OpenAPI document of each listener, made from the table of routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from rqdisco import __version__
from rqdisco.http.openapi.examples import EXAMPLES
from rqdisco.http.operations import (
    HTML,
    ID_PATTERN,
    JSON,
    STRING,
    TEXT,
    Audience,
    Endpoint,
    Object,
    Operation,
    Parameter,
    ResponseHeader,
    ResponseSpec,
)
from rqdisco.http.requests.responses import ErrorDocument
from rqdisco.http.routes import ENDPOINTS
from rqdisco.http.routes.consul_kv import CONSUL_HEADERS
from rqdisco.http.routes.parts import RETRY_AFTER

_ABOUT = (
    "A discovery service for rqlite. Success is 200, except for named IDs (201), OPTIONS (204), revalidation (304) and"
    " the form of the home page (303). Every request is answered within 8 seconds, except import, forget and drain."
    " Doubled and trailing slashes, unknown parameters and the Content-Type of a request are ignored."
    " Clients that prefer HTML to JSON get pages for people. OPTIONS of a path is 204, with its methods in Allow."
    " Any other method of a path is 405; of `/{id}`, 404 if the ID does not exist."
    " A listener on loopback without tokens answers 403 if the Host is not a name of this machine."
)
_TAGS = {
    "discovery": "The protocol of rqlite 3.12 to 6.10 and the `rqdisco` command.",
    "consul": "The protocol of rqlite 7 to 10.",
    "health": "For load balancers and supervisors.",
    "operator": "For the operator of the daemon.",
    "documents": "This document.",
    "pages": "The state of the daemon.",
    "metrics": "For Prometheus.",
}
_SCHEMES: Object = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The token is the password; any user name will do."},
    "consul": {"type": "apiKey", "in": "header", "name": "X-Consul-Token"},
}
_ANY_TOKEN: list[Object] = [{name: []} for name in _SCHEMES]
_ID: Object = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "A discovery ID; reserved names are not allowed.",
    "schema": {"type": "string", "pattern": ID_PATTERN},
}
# A name that somebody chooses: never one that Python's uuid.UUID would read.
_NAME: Object = {
    **_ID,
    "description": "A name; not a reserved one, nor one of the form of a UUID.",
    "schema": {"type": "string", "pattern": r"^(?!\.{1,2}$)(?!(?:-*[0-9A-Fa-f]){32}-*$)[A-Za-z0-9._-]{1,64}$"},
}
_CROSS_SITE = ResponseSpec("A browser sent the request for a page of another site.", ErrorDocument)
_UNAUTHENTICATED = ResponseSpec(
    "No valid token was sent.", ErrorDocument, [ResponseHeader("WWW-Authenticate", "Basic is accepted.")]
)
_NOT_ALLOWED = ResponseSpec("The token lacks the right, whether or not the ID exists.", ErrorDocument)
_CONSUL_NOT_ALLOWED = ResponseSpec("The token is unknown, or lacks the right.", STRING, media_type=TEXT)


@cache
def encode_openapi(audience: Audience) -> bytes:
    """Encode the document of an audience as JSON."""
    return msgspec.json.encode(build(audience))


def build(audience: Audience) -> Object:
    """Build the document of an audience."""
    schemas = _schemas()
    paths: dict[str, Object] = {}
    for endpoint, operation in operations(audience):
        described = _Described(endpoint, operation, audience, schemas)
        entries = paths.setdefault(path_of(endpoint), {})
        entries[operation.method.lower()] = entry = described.entry()
        if operation.method == "GET" and operation.has_head:
            entries["head"] = _head(entry)
    components: Object = {"schemas": schemas.components}
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


def operations(audience: Audience) -> Iterator[tuple[Endpoint, Operation]]:
    """The documented operations of an audience."""
    for endpoint in ENDPOINTS:
        if audience in endpoint.audiences:
            yield from ((endpoint, operation) for operation in endpoint.operations if operation.summary)


def path_of(endpoint: Endpoint) -> str:
    """The path of an endpoint as OpenAPI writes it."""
    return endpoint.path.replace("<id:discovery_id>", "{id}")


class _Schemas:
    """The schemas of all types in the table of routes."""

    def __init__(self) -> None:
        # Any: msgspec describes any type.
        types: list[Any] = [ErrorDocument]
        for endpoint in ENDPOINTS:
            for operation in endpoint.operations:
                contents = [reply.content for reply in operation.responses.values() if isinstance(reply, ResponseSpec)]
                for content in [operation.body_type, *contents]:
                    types += content if isinstance(content, tuple) else [content]
        self._types = [each for each in types if each is not None and not isinstance(each, dict)]
        self._schemas, self.components = msgspec.json.schema_components(
            self._types, ref_template="#/components/schemas/{name}"
        )
        for component in self.components.values():
            del component["title"]
            component["description"] = " ".join(component["description"].split())
            for member in component.get("properties", {}).values():
                member.pop("default", None)

    def of(self, content: Any) -> Object:
        """The schema of a reply's content."""
        if isinstance(content, dict):
            return content
        if isinstance(content, tuple):
            return {"anyOf": [self.of(each) for each in content]}
        return self._schemas[self._types.index(content)]


@cache
def _schemas() -> _Schemas:
    return _Schemas()


class _Described:
    """One operation for one audience."""

    def __init__(self, endpoint: Endpoint, operation: Operation, audience: Audience, schemas: _Schemas) -> None:
        self._key = f"{operation.method} {path_of(endpoint)}"
        self._endpoint = endpoint
        self._operation = operation
        self._is_consul = endpoint.label[0] == "consul"
        self._is_guarded = audience == "guarded" and operation.right is not None
        self._audience = audience
        self._schemas = schemas

    def entry(self) -> Object:
        operation = self._operation
        entry: Object = {
            "operationId": operation.name,
            "tags": [self._endpoint.label[0]],
            "summary": operation.summary,
            "description": operation.description,
            "parameters": [
                *self._path_parameters(),
                *map(_parameter, operation.parameters),
            ],
            "responses": {
                str(status): self._response(status, responses) for status, responses in sorted(self._responses())
            },
        }
        if operation.body_type is not None:
            # The Content-Type of a request is ignored, so only one is documented.
            content = self._content("body", JSON, operation.body_type)
            entry["requestBody"] = {"required": operation.requires_body, "content": content}
        if self._is_guarded:
            entry["security"] = [{}, *_ANY_TOKEN] if operation.token_optional else _ANY_TOKEN
        return {name: value for name, value in entry.items() if value}

    def _path_parameters(self) -> list[Object]:
        if "<id:" not in self._endpoint.path:
            return []
        is_creation = (self._operation.method, path_of(self._endpoint)) == ("PUT", "/{id}")
        return [_NAME if is_creation else _ID]

    def _responses(self) -> Iterator[tuple[int, list[ResponseSpec]]]:
        """All meanings of each status."""
        found: dict[int, list[ResponseSpec]] = {}
        for status, reply in self._operation.responses.items():
            # Operators are not rate-limited.
            if (status, self._audience) != (429, "operator"):
                found[status] = [self._error(status, reply) if isinstance(reply, str) else reply]
        for status, reply in self._common_errors():
            found.setdefault(status, []).append(reply)
        return iter(found.items())

    def _common_errors(self) -> Iterator[tuple[int, ResponseSpec]]:
        operation = self._operation
        if operation.body == "max-body":
            yield 413, self._error(413, "The body is larger than `--max-body`.")
        if operation.body == "import":
            yield 413, self._error(413, "The body is larger than 16 MiB.")
        if operation.right is not None and not operation.is_streamed:
            yield 500, self._error(500, "An internal error, which is logged.")
        if operation.method != "GET":
            yield 403, _CROSS_SITE
        if self._is_guarded and self._is_consul:
            # Consul's own texts, without its headers.
            yield 403, _CONSUL_NOT_ALLOWED
        elif self._is_guarded:
            yield 401, _UNAUTHENTICATED
            if operation.right != "known":
                yield 403, _NOT_ALLOWED

    def _error(self, status: int, description: str) -> ResponseSpec:
        headers = [*(CONSUL_HEADERS if self._is_consul else ()), *([RETRY_AFTER] if status == 503 else [])]
        if self._is_consul:
            return ResponseSpec(description, {"type": "string", "minLength": 1}, headers, TEXT)
        return ResponseSpec(description, ErrorDocument, headers)

    def _response(self, status: int, responses: Sequence[ResponseSpec]) -> Object:
        # Only headers that each of them has.
        headers = [header for header in responses[0].headers if all(header in each.headers for each in responses)]
        content: Object = {}
        for reply in responses:
            if reply.content is not None:
                content = {**self._content(str(status), reply.media_type, reply.content), **content}
            if reply.text is not None:
                content |= self._content(str(status), TEXT, reply.text)
        if self._operation.page is not None:
            content[HTML] = {"schema": STRING}
        response: Object = {
            "description": " Or: ".join(reply.description for reply in responses),
            "headers": {header.name: _header(header) for header in headers},
            "content": content,
            "links": {name: _link(name, text) for name, text in self._operation.links.items() if status == 200},
        }
        return {name: value for name, value in response.items() if value}

    def _content(self, part: str, kind: str, content: Any) -> Mapping[str, Object]:
        key = f"{self._key} {part}" if part == "body" else f"{self._key} {part} {kind}"
        example = {"example": EXAMPLES[key]} if key in EXAMPLES else {}
        return {kind: {"schema": self._schemas.of(content), **example}}


def _parameter(parameter: Parameter) -> Object:
    return {
        "name": parameter.name,
        "in": parameter.location,
        "required": False,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _header(header: ResponseHeader) -> Object:
    return {"description": header.description, "required": header.is_required, "schema": header.schema}


def _link(operation: str, description: str) -> Object:
    return {
        "operationId": operation,
        "parameters": {"id": "$response.body#/disco_id"},
        "description": description,
    }


def _head(entry: Object) -> Object:
    """The HEAD operation of a GET operation."""
    responses = {
        status: {name: value for name, value in response.items() if name not in ("content", "links")}
        for status, response in entry["responses"].items()
    }
    name, summary = f"{entry['operationId']}Head", f"{entry['summary']} Without content."
    return {**entry, "operationId": name, "summary": summary, "responses": responses}
