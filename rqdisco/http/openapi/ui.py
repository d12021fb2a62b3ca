"""What every listener says of itself, and what operators measure."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.parts import (
    HTML,
    TEXT,
    TEXTUAL,
    Operation,
    ResponseSpec,
    asked,
    error,
    flag_parameter,
    header,
    json,
)

_TAG = "health"
_page = partial(Operation, method="get", head=True)
_ETAG = {
    "ETag": header("Changes with the document.", TEXTUAL),
    "Cache-Control": header("May be kept, but asked for again.", {"const": "no-cache"}),
}

OPERATIONS = (
    _page(
        path="/healthz",
        tag=_TAG,
        name="isAlive",
        summary="The process runs and answers.",
        replies={200: ResponseSpec("It does.", json("Alive"))},
    ),
    _page(
        path="/readyz",
        tag=_TAG,
        name="isReady",
        summary="Lists can be served.",
        description="What is wrong is told to operators: where there are tokens, to who has the scope `admin`.",
        parameters=(flag_parameter("grant", "Can things also be changed here, and a node be told to bootstrap?"),),
        replies={200: ResponseSpec("They can.", json("Ready")), 503: ResponseSpec("They cannot.", json("NotReady"))},
    ),
    _page(
        path="/openapi.json",
        tag="documents",
        name="getDocument",
        summary="This document: what can be asked where it was asked for.",
        parameters=(asked("If-None-Match", "The ETag of what is known already."),),
        replies={
            200: ResponseSpec("The document.", json("OpenAPI"), _ETAG),
            304: ResponseSpec("It is known already.", {}, _ETAG),
        },
    ),
    _page(
        path="/status",
        tag="documents",
        name="getStatus",
        summary="How the daemon is, as a page for people.",
        right="admin",
        replies={
            200: ResponseSpec("The page.", {HTML: TEXTUAL}),
            404: error("Who asks does not prefer HTML."),
            500: ResponseSpec("A fault of the daemon's; it is in its log.", {HTML: TEXTUAL}),
        },
    ),
    _page(
        path="/metrics",
        tag="operator",
        name="getMetrics",
        summary="All metrics, in Prometheus' text format.",
        description="Also on `--metrics-listen`, where nothing else is answered.",
        audiences=("operator",),
        replies={200: ResponseSpec("The metrics.", {TEXT: TEXTUAL})},
    ),
)
