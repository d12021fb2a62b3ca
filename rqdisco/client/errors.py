"""The errors that DiscoveryClient raises."""

from __future__ import annotations


class ClientError(Exception):
    """A request failed, as far as the client can tell; `str` is one line of text."""


class Unreachable(ClientError):
    """rqdisco did not respond: no connection, no response in time, or a response that is not
    rqdisco's.

    The request may have taken effect nevertheless.
    """


class NotWatchable(ClientError):
    """The service is too old to stream changes; poll it instead."""


class Refused(ClientError):
    """The service refused the request. `status` is the HTTP status, `reason` its reason phrase, and
    `str` the error text.
    """

    def __init__(self, status: int, reason: str, error: str) -> None:
        super().__init__(error or reason)
        self.status = status
        self.reason = reason


class Unavailable(Refused):
    """The service cannot serve the request now (429, 503). `retry_after` is how many seconds the
    service asks to wait, None if it does not say.
    """

    def __init__(self, status: int, reason: str, error: str, retry_after: float | None) -> None:
        super().__init__(status, reason, error)
        self.retry_after = retry_after
