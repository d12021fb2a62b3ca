"""Where a service is: `http://HOST:PORT`, `https://USER:PASSWORD@HOST:PORT`,
`unix:/PATH/OF/SOCKET`.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from hyperlink import EncodedURL

# An IPv6 address with a zone: [fe80::1%25eth0] (RFC 6874); people write [fe80::1%eth0] too.
_ZONE = re.compile(r"([A-Za-z]+://(?:[^/?#@]*@)?\[[0-9A-Fa-f:.]+)%(?:25)?([^\]/?#]*)\]")
_ZONE_NAME = re.compile(r"[A-Za-z0-9._~-]+\Z")


class _Sendable(EncodedURL):
    """A URL of ASCII only. treq has hyperlink make one of every URL, which fails on the colons of
    an IPv6 address.
    """

    def to_uri(self) -> EncodedURL:
        return self


class ServiceURL(msgspec.Struct, frozen=True, kw_only=True):
    """A URL taken apart: what to put before paths, the Authorization header, the socket's path, and
    the interface by which its IPv6 address is reached, if there are.
    """

    base: str
    authorization: str | None = None
    socket: str | None = None
    zone: str | None = None

    def __repr__(self) -> str:
        """Without credentials, which would end up in a traceback."""
        return f"Target({self.name!r})"

    def url(self, path: str) -> EncodedURL:
        """What to ask for `path`, which is ASCII."""
        return _Sendable.from_text(f"{self.base}{path}")

    @property
    def name(self) -> str:
        """The URL without credentials."""
        if self.socket is not None:
            return f"unix:{self.socket}"
        return self.base if self.zone is None else self.base.replace("]", f"%25{self.zone}]", 1)


def parse_url(url: str) -> ServiceURL:
    """Take the URL of a service apart. Raises ValueError; its text never repeats a password."""
    if url.startswith("unix:"):
        return _unix(url.removeprefix("unix:"))
    url, zone = _split_zone(url)
    try:
        split = urlsplit(url)
    except ValueError:
        raise ValueError("only an IPv6 address stands between [ and ]; in a password they are %5B and %5D") from None
    try:
        port = "" if split.port is None else f":{split.port}"
    except ValueError:
        # Its own words may repeat a part of a password.
        raise ValueError("its port is no port; a / in a password is written %2F") from None
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ValueError("it must be http://HOST:PORT, https://HOST:PORT or unix:/PATH")
    if split.query or split.fragment:
        raise ValueError("it must end with the port or a path")
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    parsed = EncodedURL.from_text(f"{split.scheme}://{host}{port}{split.path.rstrip('/')}")
    base = (parsed if ":" in parsed.host else parsed.to_uri()).to_text()
    if not base.isascii():
        raise ValueError("it must be ASCII")
    return ServiceURL(base=base, authorization=_basic(split), zone=zone)


def check_token(token: str) -> str:
    """A token, without white space around it. Raises ValueError; its text never repeats it."""
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("the token is empty, or has characters that no token has")
    return token


def _split_zone(url: str) -> tuple[str, str | None]:
    match = _ZONE.match(url)
    if match is None:
        return url, None
    if not _ZONE_NAME.match(match[2]):
        raise ValueError("the zone of an IPv6 address is the name of a network interface, as in [fe80::1%25eth0]")
    return f"{match[1]}]{url[match.end() :]}", match[2]


def _unix(path: str) -> ServiceURL:
    if path.startswith("//") and not path.startswith("///"):
        raise ValueError("a UNIX socket is unix:/PATH")
    path = path.removeprefix("//")
    if not path or "\0" in path:
        raise ValueError("a UNIX socket is unix:/PATH")
    return ServiceURL(base="http://localhost", socket=path)


def _basic(split: SplitResult) -> str | None:
    if split.username is None:
        return None
    credentials = f"{unquote(split.username)}:{unquote(split.password or '')}"
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"
