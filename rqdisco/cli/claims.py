"""Descriptions of a claim whose node is hidden until it reports that it leads."""

from __future__ import annotations

from datetime import datetime

from rqdisco.client import ClaimInfo
from rqdisco.core.records import LONG_CLAIM_SECONDS


def describe_claim(claim: ClaimInfo) -> str:
    """Describe a claim in a clause."""
    return f"a node claimed to lead at {claim.since}, was granted the claim {_times(claim)}, and has not reported yet"


def summarize_claim(claim: ClaimInfo) -> str:
    """Describe a claim for a line of `status`."""
    return f"since {claim.since}, granted {_times(claim)}, not reported yet"


def is_overdue(claim: ClaimInfo, now: float) -> bool:
    """Report whether the node should have reported by now; `now` is in seconds since 1970, by this
    host's clock.
    """
    try:
        since = datetime.fromisoformat(claim.since.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        # The service may send anything.
        return False
    return now - since > LONG_CLAIM_SECONDS


def overdue_remedy(discovery_id: str) -> str:
    """Return how to end an overdue claim."""
    return (
        "the daemon's log names it: stop that node for good, or wipe its data directory, then run"
        f" `rqdisco leader clear {discovery_id} --yes`"
    )


def _times(claim: ClaimInfo) -> str:
    return "once" if claim.answered == 1 else f"{claim.answered} times"
