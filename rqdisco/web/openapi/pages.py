"""What every listener says of itself, and what operators measure."""

from __future__ import annotations

from rqdisco.web.openapi.parts import HTML, TEXT, TEXTUAL, Operation, Reply, error, flag, header, json

_TAG = "health"
_ETAG = {
    "ETag": header("Changes with the document.", TEXTUAL),
    "Cache-Control": header("May be kept, but asked for again.", {"const": "no-cache"}),
}

OPERATIONS = (
    Operation(
        path="/healthz",
        method="get",
        tag=_TAG,
        name="isAlive",
        summary="The process runs and answers.",
        head=True,
        replies={200: Reply("It does.", json("Alive"))},
    ),
    Operation(
        path="/readyz",
        method="get",
        tag=_TAG,
        name="isReady",
        summary="Lists can be served.",
        description="What is wrong is told to operators: where there are tokens, to who has the scope `admin`.",
        head=True,
        parameters=(flag("grant", "Can things also be changed here, and a node be told that it is alone?"),),
        replies={200: Reply("They can.", json("Ready")), 503: Reply("They cannot.", json("NotReady"))},
    ),
    Operation(
        path="/openapi.json",
        method="get",
        tag="documents",
        name="getDocument",
        summary="This document: what can be asked where it was asked for.",
        head=True,
        parameters=(
            {
                "name": "If-None-Match",
                "in": "header",
                "required": False,
                "description": "The ETag of what is known already.",
                "schema": TEXTUAL,
            },
        ),
        replies={200: Reply("The document.", json("OpenAPI"), _ETAG), 304: Reply("It is known already.", {}, _ETAG)},
    ),
    Operation(
        path="/status",
        method="get",
        tag="documents",
        name="getStatus",
        summary="How the daemon is, as a page for people.",
        right="admin",
        head=True,
        replies={
            200: Reply("The page.", {HTML: TEXTUAL}),
            404: error("Who asks does not prefer HTML."),
            500: Reply("A fault of the daemon's; it is in its log.", {HTML: TEXTUAL}),
        },
    ),
    Operation(
        path="/metrics",
        method="get",
        tag="operator",
        name="getMetrics",
        summary="All metrics, in Prometheus' text format.",
        description="Also on `--metrics-listen`, where nothing else is answered.",
        head=True,
        audiences=("operator",),
        replies={200: Reply("The metrics.", {TEXT: TEXTUAL})},
    ),
)
