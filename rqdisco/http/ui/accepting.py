"""The choice of clients that get pages instead of JSON."""

from __future__ import annotations


def prefers_html(accept: str) -> bool:
    """Report whether an Accept header (RFC 9110 section 12.5.1) names HTML, and prefers it to
    JSON.
    """
    weights = {"text/html": 0.0, "application/json": 0.0}
    for each in accept.split(","):
        kind, _, parameters = each.strip().lower().partition(";")
        if (kind := kind.strip()) in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    return weights["text/html"] > weights["application/json"]


def _weight(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
