"""The routes of the daemon: health, metrics, documents and pages."""

from __future__ import annotations

from rqdisco.http.api.discovery import DiscoveryAPI
from rqdisco.http.api.health import HealthAPI, Liveness, Readiness
from rqdisco.http.api.metrics import MetricsAPI
from rqdisco.http.openapi.page import OpenAPIDocument
from rqdisco.http.operations import (
    HTML,
    STRING,
    TEXT,
    Endpoint,
    Parameter,
    ResponseHeader,
    ResponseSpec,
)
from rqdisco.http.routes.parts import PAGE_COST, endpoint, flag, get
from rqdisco.http.ui.pages import Pages

_DOCUMENT = (
    ResponseHeader("ETag", "Changes with the document."),
    ResponseHeader("Cache-Control", "Caches must revalidate.", {"const": "no-cache"}),
)

DAEMON: tuple[Endpoint, ...] = (
    endpoint(
        "/healthz",
        ("health", "/healthz"),
        HealthAPI,
        get(
            HealthAPI.show_liveness,
            "isAlive",
            "Check that the process answers.",
            responses={200: ResponseSpec("It does.", Liveness)},
        ),
    ),
    endpoint(
        "/readyz",
        ("health", "/readyz"),
        HealthAPI,
        get(
            HealthAPI.show_readiness,
            "isReady",
            "Check that lists can be served.",
            description="Only operators see what is wrong: where tokens are required, clients with the scope `admin`.",
            parameters=[flag("grant", "Check also that records can be changed, and a node can be told to bootstrap.")],
            responses={200: ResponseSpec("Ready.", Readiness), 503: ResponseSpec("Not ready.", Readiness)},
        ),
    ),
    endpoint(
        "/openapi.json",
        ("documents", "/openapi.json"),
        OpenAPIDocument,
        get(
            OpenAPIDocument.show,
            "getDocument",
            "This document: the operations of the listener that serves it.",
            parameters=[Parameter("If-None-Match", "The ETag of the cached document.", location="header")],
            responses={
                200: ResponseSpec(
                    "The document.", {"type": "object", "required": ["openapi", "info", "paths"]}, _DOCUMENT
                ),
                304: ResponseSpec("The cached document is current.", headers=_DOCUMENT),
            },
        ),
    ),
    endpoint(
        "/status",
        ("pages", "/status"),
        DiscoveryAPI,
        get(
            DiscoveryAPI.refuse_page,
            "getStatus",
            "The state of the daemon, as a page for people.",
            right="admin",
            page=Pages.status,
            cost=PAGE_COST,
            responses={
                200: ResponseSpec("The page.", STRING, media_type=HTML),
                404: "The client does not prefer HTML.",
            },
        ),
    ),
    endpoint(
        "/clusters",
        ("pages", "/clusters"),
        DiscoveryAPI,
        get(DiscoveryAPI.refuse_page, right="known", page=Pages.clusters, cost=PAGE_COST),
    ),
    endpoint("/help", ("pages", "/help"), DiscoveryAPI, get(DiscoveryAPI.refuse_page, page=Pages.help)),
    endpoint("/help/api", ("pages", "/help/api"), DiscoveryAPI, get(DiscoveryAPI.refuse_page, page=Pages.api)),
    endpoint(
        "/static/<path:name>",
        ("pages", "/static"),
        Pages,
        get(Pages.file),
    ),
    endpoint(
        "/metrics",
        ("metrics", "/metrics"),
        MetricsAPI,
        get(
            MetricsAPI.show,
            "getMetrics",
            "All metrics, in Prometheus' text format.",
            description="Also on `--metrics-listen`, where nothing else is served.",
            cost=PAGE_COST,
            responses={200: ResponseSpec("The metrics.", STRING, media_type=TEXT)},
        ),
        audiences=("operator",),
    ),
)
