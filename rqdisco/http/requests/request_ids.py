"""What a request is called in the audit log."""

from __future__ import annotations

import itertools
import re
from typing import Any

from rqdisco.core.ids import RandomBytes

HEADER = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")


class RequestIDs:
    """Takes the name that a client gave its request, if it is one to write down, or makes one; and
    sends it back.
    """

    def __init__(self, random: RandomBytes) -> None:
        self._prefix = random(6).hex()
        self._numbers = itertools.count(1)

    def __call__(self, request: Any) -> str:
        """The name, the same each time it is asked for."""
        sent: bytes | None = request.getHeader(HEADER)
        if sent is not None and _SANE.match(sent):
            name = sent.decode()
        else:
            before = request.responseHeaders.getRawHeaders(HEADER)
            name = before[0].decode() if before else f"{self._prefix}-{next(self._numbers)}"
        request.setHeader(HEADER, name.encode())
        return name
