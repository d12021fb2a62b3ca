"""Hints at what somebody meant whose endpoint cannot be parsed, or cannot be listened on. Pure."""

from __future__ import annotations

import errno
import re

from twisted.internet.error import CannotListenError

_HOST_PORT = re.compile(r"(?:tcp:|https?://)?(?:(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\]|\*)?:)?(?P<port>[0-9]{1,5})/?\Z")
_ANYWHERE = ("", "*", "0.0.0.0")  # noqa: S104, compared with, not bound
_REMEDIES = {
    errno.EADDRINUSE: "stop what listens there, or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def meant_endpoint(description: str) -> str | None:
    """Return the endpoint that a port, HOST:PORT or a URL stands for, None if it is none of these."""
    match = _HOST_PORT.match(description)
    if match is None:
        return None
    host, port = (match["host"] or "").strip("[]"), match["port"]
    if host in _ANYWHERE:
        return f"tcp:{port}"
    # Twisted splits endpoints at colons.
    return f"tcp:{port}:interface={host.replace(':', chr(92) + ':')}"


def why_no_endpoint(description: str, error: Exception) -> str:
    """Return the reason why a description cannot be parsed, and what to write instead."""
    meant = meant_endpoint(description)
    hint = "it is an endpoint, such as tcp:4000:interface=127.0.0.1" if meant is None else f"write {meant}"
    return f"{error} ({hint})"


def why_not_listening(error: CannotListenError) -> str:
    """Return the reason of the operating system, and what to do where that is known."""
    cause = error.socketError
    reason = getattr(cause, "strerror", None) or str(cause)
    remedy = _REMEDIES.get(getattr(cause, "errno", None) or 0)
    return reason if remedy is None else f"{reason}; {remedy}"
