"""The failures of requests to etcd, by what is then known about the request (E2)."""

from __future__ import annotations

from rqdisco.core.errors import EtcdDenied, EtcdFull, EtcdUnavailable


class EtcdFailure(Exception):
    """A request that was not answered as asked; the text is the reason, for operators."""


class NotApplied(EtcdFailure):
    """No copy of the request changed anything, or ever will."""


class LeaseNotFound(NotApplied):
    """The transaction refers to a lease that has expired, so no copy of it can be applied."""


class OutcomeUnknown(EtcdFailure):
    """A copy of the request may have been applied, or may still be applied later."""


class NoSpace(NotApplied):
    """etcd's database is full: its NOSPACE alarm is raised, and nothing can be written."""


class AuthFailed(NotApplied):
    """etcd refused the user, the password or the permission."""


class TooLarge(EtcdFailure):
    """The answer is larger than this daemon reads; the request may have been applied. Smaller
    requests may be answered.
    """


def unavailable(failure: EtcdFailure) -> EtcdUnavailable:
    """Return the error of a request that fails with it."""
    if isinstance(failure, NoSpace):
        return EtcdFull(str(failure))
    return EtcdDenied(str(failure)) if isinstance(failure, AuthFailed) else EtcdUnavailable(str(failure))
