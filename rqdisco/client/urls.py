"""Service URLs: `http://HOST:PORT`, `https://USER:PASSWORD@HOST:PORT`, `unix:/PATH/OF/SOCKET`."""

from __future__ import annotations

import base64
import re
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from hyperlink import EncodedURL

# An IPv6 address with a zone: [fe80::1%25eth0] (RFC 6874); people write [fe80::1%eth0] too.
_ZONE = re.compile(r"([A-Za-z]+://(?:[^/?#@]*@)?\[[0-9A-Fa-f:.]+)%(?:25)?([^\]/?#]*)\]")
_ZONE_NAME = re.compile(r"[A-Za-z0-9._~-]+\Z")


class _ASCIIURL(EncodedURL):
    """An ASCII URL. treq converts every URL with hyperlink, which fails on the colons of an IPv6
    address.
    """

    def to_uri(self) -> EncodedURL:
        return self


class ServiceURL(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed service URL."""

    # What precedes the path of a request.
    base: str
    # The Authorization header.
    authorization: str | None = None
    # The path of a UNIX socket.
    socket: str | None = None
    # The network interface of a link-local IPv6 address.
    zone: str | None = None

    def __repr__(self) -> str:
        """Hide the credentials, which would show up in tracebacks."""
        return f"ServiceURL({self.name!r})"

    def url(self, path: str) -> EncodedURL:
        """Return the URL of `path`, which is ASCII."""
        return _ASCIIURL.from_text(f"{self.base}{path}")

    @property
    def name(self) -> str:
        """The URL without credentials, for display."""
        if self.socket is not None:
            return f"unix:{self.socket}"
        return self.base if self.zone is None else self.base.replace("]", f"%25{self.zone}]", 1)


def parse_url(url: str) -> ServiceURL:
    """Parse a service URL. Raises ValueError, whose text never contains a password."""
    if url.startswith("unix:"):
        return _parse_unix(url.removeprefix("unix:"))
    url, zone = _split_zone(url)
    try:
        split = urlsplit(url)
    except ValueError:
        raise ValueError("[ and ] may only enclose an IPv6 address; write %5B and %5D in a password") from None
    try:
        port = "" if split.port is None else f":{split.port}"
    except ValueError:
        # The original error may contain a part of a password.
        raise ValueError("invalid port; write %2F for a / in a password") from None
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ValueError("use http://HOST:PORT, https://HOST:PORT or unix:/PATH")
    if split.query or split.fragment:
        raise ValueError("a query or fragment is not allowed")
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    parsed = EncodedURL.from_text(f"{split.scheme}://{host}{port}{split.path.rstrip('/')}")
    base = (parsed if ":" in parsed.host else parsed.to_uri()).to_text()
    if not base.isascii():
        raise ValueError("non-ASCII characters are not allowed")
    return ServiceURL(base=base, authorization=_basic(split), zone=zone)


def check_token(token: str) -> str:
    """Return a token without surrounding white space. Raises ValueError, whose text never contains
    the token.
    """
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("the token is empty or has invalid characters")
    return token


def _split_zone(url: str) -> tuple[str, str | None]:
    match = _ZONE.match(url)
    if match is None:
        return url, None
    if not _ZONE_NAME.match(match[2]):
        raise ValueError("the zone of an IPv6 address must be the name of a network interface, as in [fe80::1%25eth0]")
    return f"{match[1]}]{url[match.end() :]}", match[2]


def _parse_unix(path: str) -> ServiceURL:
    if path.startswith("//") and not path.startswith("///"):
        raise ValueError("write a UNIX socket as unix:/PATH")
    path = path.removeprefix("//")
    if not path or "\0" in path:
        raise ValueError("write a UNIX socket as unix:/PATH")
    return ServiceURL(base="http://localhost", socket=path)


def _basic(split: SplitResult) -> str | None:
    if split.username is None:
        return None
    credentials = f"{unquote(split.username)}:{unquote(split.password or '')}"
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"
