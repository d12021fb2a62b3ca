"""The page that lists the HTTP API, made from the OpenAPI document of the listener."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.formatting import with_code

_METHODS = ("get", "post", "put", "delete")
_TITLES = {"discovery": "Discovery", "consul": "consul-kv", "health": "Health", "operator": "Operators"}


class ApiOperation(msgspec.Struct, frozen=True):
    """One method of a path, and what it does."""

    method: str
    path: str
    summary: str


class ApiGroup(msgspec.Struct, frozen=True):
    """The operations of one API."""

    name: str
    about: str
    operations: Sequence[ApiOperation]


def api_groups(openapi: bytes) -> Sequence[ApiGroup]:
    """Return the operations of an OpenAPI document, by tag."""
    # Any: a document of free form, which this package wrote.
    document: dict[str, Any] = msgspec.json.decode(openapi)
    found: dict[str, list[ApiOperation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, entries in document["paths"].items():
        for method in _METHODS:
            if (entry := entries.get(method)) is not None:
                found[entry["tags"][0]].append(ApiOperation(method.upper(), path, entry["summary"]))
    return [
        ApiGroup(tag["name"], tag.get("description", ""), found[tag["name"]])
        for tag in document["tags"]
        if found[tag["name"]]
    ]


class ApiPage(Element):
    """The paths of the API; `url` is the service's."""

    def __init__(self, assets: Assets, groups: Sequence[ApiGroup], url: str) -> None:
        super().__init__(loader=assets.templates["api"])
        self._groups = groups
        self._url = url

    @renderer
    def example(self, _: IRequest, tag: Tag) -> str:
        return f"curl -X POST {self._url}/      # creates an ID\ncurl {self._url}/ID           # shows its nodes"

    @renderer
    def groups(self, _: IRequest, tag: Tag) -> Iterator[Tag]:
        for group in self._groups:
            name = f"api-{group.name}"
            title = tags.h2(_TITLES.get(group.name, group.name.capitalize()), id=name)
            rows = [_row(each) for each in group.operations]
            yield tags.section(
                title,
                tags.p(*with_code(group.about), class_="quiet"),
                tags.dl(*rows, class_="words wide api"),
                class_="card",
                **{"aria-labelledby": name},
            )


def _row(operation: ApiOperation) -> Tag:
    method = tags.span(operation.method, class_="method")
    return tags.div(tags.dt(method, " ", tags.code(operation.path)), tags.dd(*with_code(operation.summary)))
