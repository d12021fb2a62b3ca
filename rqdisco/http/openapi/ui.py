"""The operations that every listener supports, and metrics."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.parts import (
    HTML,
    STRING,
    TEXT,
    Operation,
    ResponseSpec,
    flag_parameter,
    header_parameter,
    json_content,
    json_error,
    response_header,
)

_TAG = "health"
_page = partial(Operation, method="get", head=True)
_ETAG = {
    "ETag": response_header("Changes with the document.", STRING),
    "Cache-Control": response_header("Caches must revalidate.", {"const": "no-cache"}),
}

OPERATIONS = (
    _page(
        path="/healthz",
        tag=_TAG,
        name="isAlive",
        summary="Check that the process answers.",
        replies={200: ResponseSpec("It does.", json_content("Alive"))},
    ),
    _page(
        path="/readyz",
        tag=_TAG,
        name="isReady",
        summary="Check that lists can be served.",
        description="Only operators see what is wrong: where tokens are required, clients with the scope `admin`.",
        parameters=(
            flag_parameter("grant", "Check also that records can be changed, and a node can be told to bootstrap."),
        ),
        replies={
            200: ResponseSpec("Ready.", json_content("Ready")),
            503: ResponseSpec("Not ready.", json_content("NotReady")),
        },
    ),
    _page(
        path="/openapi.json",
        tag="documents",
        name="getDocument",
        summary="This document: the operations of the listener that serves it.",
        parameters=(header_parameter("If-None-Match", "The ETag of the cached document."),),
        replies={
            200: ResponseSpec("The document.", json_content("OpenAPI"), _ETAG),
            304: ResponseSpec("The cached document is current.", {}, _ETAG),
        },
    ),
    _page(
        path="/status",
        tag="documents",
        name="getStatus",
        summary="The state of the daemon, as a page for people.",
        right="admin",
        replies={
            200: ResponseSpec("The page.", {HTML: STRING}),
            404: json_error("The client does not prefer HTML."),
            500: ResponseSpec("An internal error, which is logged.", {HTML: STRING}),
        },
    ),
    _page(
        path="/metrics",
        tag="operator",
        name="getMetrics",
        summary="All metrics, in Prometheus' text format.",
        description="Also on `--metrics-listen`, where nothing else is served.",
        audiences=("operator",),
        replies={200: ResponseSpec("The metrics.", {TEXT: STRING})},
    ),
)
