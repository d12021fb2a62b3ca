"""IDs of requests in the audit log."""

from __future__ import annotations

import itertools
import re

from rqdisco.core.ids import RandomBytes
from rqdisco.http.requests.request import Request

HEADER = b"x-request-id"
_SAFE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")


class RequestIDs:
    """Uses the ID that the client sent if it is safe to log, or generates one, and returns it in
    the response.
    """

    def __init__(self, random: RandomBytes) -> None:
        self._prefix = random(6).hex()
        self._numbers = itertools.count(1)

    def __call__(self, request: Request) -> str:
        """Return the ID of the request; each call returns the same one."""
        sent = request.header(HEADER)
        if sent is not None and _SAFE.match(sent):
            request_id = sent.decode()
        else:
            generated = [value for name, value in request.added or () if name == HEADER]
            request_id = generated[0].decode() if generated else f"{self._prefix}-{next(self._numbers)}"
        request.add_header(HEADER, request_id.encode())
        return request_id
