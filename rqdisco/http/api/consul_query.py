"""The query strings of Consul's key-value API."""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec
from twisted.logger import Logger

from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import BadRequest

_MAX_NUMBER = 2**64 - 1
# Parameters that select one of several data centers, namespaces or partitions.
_IGNORED = ("dc", "ns", "partition")


class KVQuery(msgspec.Struct, frozen=True):
    """The supported parameters of the query string."""

    cas: int | None
    flags: int
    raw: bool


class QueryParser:
    """Parses query strings, and logs to `log` each parameter that it ignores, once."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._logged: set[str] = set()

    def parse(self, request: Request) -> KVQuery:
        """Parse the query string of a request. Raises BadRequest."""
        parameters = query_parameters(request)
        if "acquire" in parameters or "release" in parameters:
            both = "cas" in parameters or {"acquire", "release"} <= parameters.keys()
            raise BadRequest("Conflicting flags" if both else "sessions are not supported by rqdisco")
        if "recurse" in parameters or "keys" in parameters:
            raise BadRequest("recurse and keys are not supported by rqdisco")
        for name in _IGNORED:
            if name in parameters and name not in self._logged:
                self._logged.add(name)
                self._log.info("consul-kv: parameter ignored, rqdisco does not support it", parameter=name)
        return KVQuery(
            cas=_number(parameters["cas"], "Invalid cas index") if "cas" in parameters else None,
            flags=_number(parameters["flags"], "Invalid flags") if "flags" in parameters else 0,
            raw="raw" in parameters,
        )


def query_parameters(request: Request) -> dict[str, str]:
    """Parse the query string as Consul does: the first of repeated parameters counts."""
    query = request.query.decode("utf-8", "replace")
    return dict(reversed(parse_qsl(query, keep_blank_values=True)))


def _number(text: str, error: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 30 and int(text) <= _MAX_NUMBER):
        raise BadRequest(error)
    return int(text)
