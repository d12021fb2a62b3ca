"""The version of rqlite and the URL of the service in a request for flags. Pure."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from rqdisco.core.addresses import split_zone

Version = tuple[int, int, int]
# Stands for a part of a version that was left out: the newest release.
ANY = 1 << 30
_VERSION = re.compile(r"v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Unsupported(ValueError):
    """This version of rqlited cannot do what is requested; the text says why and what works
    instead.
    """


def parse_version(text: str) -> Version:
    """Return the parts of a version or of a prefix of one. Raises Unsupported."""
    match = _VERSION.match(text)
    if match is None:
        raise Unsupported("not a version of rqlite, such as 8 or 7.21.4")
    major, minor, patch = (ANY if part is None else int(part) for part in match.groups())
    return major, minor, patch


def parse_service_url(url: str) -> tuple[SplitResult, int]:
    """Return the parsed URL, without the zone of an IPv6 address, and the port. Raises Unsupported."""
    plain, _ = split_url_zone(url)
    try:
        split = urlsplit(plain)
        port = split.port
    except ValueError:
        # The original error may contain a part of a password.
        raise Unsupported("not a URL: use http://HOST:PORT, with %2F for a / in a password") from None
    if split.scheme == "unix":
        raise Unsupported("rqlited cannot use a UNIX socket: use the http:// or https:// URL of the service")
    if split.scheme not in _DEFAULT_PORTS or not split.hostname or split.query or split.fragment:
        raise Unsupported("the URL of the service must be http://HOST:PORT or https://HOST:PORT")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise Unsupported("the URL of the service must not contain white space or control characters")
    return split, _DEFAULT_PORTS[split.scheme] if port is None else port


def split_url_zone(url: str) -> tuple[str, str | None]:
    """Return the URL without the zone of an IPv6 address, and the zone. Raises Unsupported."""
    try:
        return split_zone(url)
    except ValueError as error:
        raise Unsupported(str(error)) from None


def with_zone(url: str) -> str:
    """Return the URL as Go parses it, with the `%` before the zone escaped."""
    plain, zone = split_url_zone(url)
    return url if zone is None else plain.replace("]", f"%25{zone}]", 1)


def basic_auth(url: SplitResult, version: Version) -> dict[str, str]:
    """Return the user and the password as -disco-config takes them. Raises Unsupported."""
    auth = {"username": unquote(url.username or ""), "password": unquote(url.password or "")}
    # rqlited expands environment variables in the whole configuration, and a $ cannot be quoted.
    if version >= (7, 16, 0) and any("$" in text for text in auth.values()):
        raise Unsupported("rqlite 7.16 and later expand a $ in user and password: choose a user and password without $")
    return auth
