"""How a request can end other than well."""

from __future__ import annotations


class ClientError(Exception):
    """A request that was not carried out, as far as is known; the text is one line in words."""


class Unreachable(ClientError):
    """No answer of rqdisco came: no connection, no answer in time, or somebody else answered.

    What a request would have changed may have been changed all the same.
    """


class NotWatchable(ClientError):
    """The service does not say by itself what changes: it is an older one. It can be asked now and
    then.
    """


class Refused(ClientError):
    """The service said no: the status, its reason phrase, and its error text as `str`."""

    def __init__(self, status: int, reason: str, error: str) -> None:
        super().__init__(error or reason)
        self.status = status
        self.reason = reason


class Unavailable(Refused):
    """The service cannot do it now (503, 429); `retry_after` is in how many seconds it wants to be
    asked again.
    """

    def __init__(self, status: int, reason: str, error: str, retry_after: float | None) -> None:
        super().__init__(status, reason, error)
        self.retry_after = retry_after
