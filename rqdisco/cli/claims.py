"""Descriptions of a claim whose node is hidden until it reports that it leads."""

from __future__ import annotations

from rqdisco.client import ClaimInfo


def describe_claim(claim: ClaimInfo) -> str:
    """Describe a claim in a clause."""
    return f"a node claimed to lead at {claim.since}, was granted the claim {_times(claim)}, and has not reported yet"


def summarize_claim(claim: ClaimInfo) -> str:
    """Describe a claim for a line of `status`."""
    return f"since {claim.since}, granted {_times(claim)}, not reported yet"


def _times(claim: ClaimInfo) -> str:
    return "once" if claim.answered == 1 else f"{claim.answered} times"
