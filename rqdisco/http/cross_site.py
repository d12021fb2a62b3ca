"""Refuses what a page of another site would have a visitor's browser do.

No page of another site can let a visitor's browser create, register or remove. Browsers send the
site that a request originates from (Fetch Metadata; where that is missing, on plain HTTP, `Origin`,
RFC 6454); other clients send neither.
"""

from __future__ import annotations

from rqdisco.http.requests.request import Request

_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_SAME_SITE = (b"same-origin", b"none")


def is_cross_site(request: Request) -> bool:
    """Report whether a browser sent the request for a page of another site."""
    site = origin = None
    for name, value in request.headers:
        if name == b"sec-fetch-site":
            site = value
        elif name == b"origin":
            origin = value
    if site is not None:
        return site not in _SAME_SITE
    if origin is None:
        return False
    return not is_own_origin(origin, request.header(b"host") or b"")


def is_own_origin(origin: bytes, host: bytes) -> bool:
    """Report whether an `Origin` (RFC 6454) names the site that `Host` names, with or without the
    default port of its scheme.

    The scheme itself is not compared: a proxy may have ended TLS.
    """
    scheme, separator, site = origin.lower().partition(b"://")
    port = _DEFAULT_PORTS.get(scheme)
    return bool(separator) and port is not None and site.removesuffix(port) == host.lower().removesuffix(port) != b""
