"""What there is to be said of a claim whose node has not reported that it leads, and is shown to
nobody until then.
"""

from __future__ import annotations

from datetime import datetime

from rqdisco.client import ClaimInfo
from rqdisco.core.records import LONG_CLAIM_SECONDS


def describe_claim(claim: ClaimInfo) -> str:
    """How it stands."""
    return f"a node claimed to lead at {claim.since}, was told {_times(claim)} that it won, and has not reported itself"


def summarize_claim(claim: ClaimInfo) -> str:
    """The same beside other lines."""
    return f"since {claim.since}, answered {_times(claim)}, no report yet"


def waits_for_long(claim: ClaimInfo, now: float) -> bool:
    """Whether its node should have reported itself by now; `now` is in seconds since 1970, by this
    machine's clock.
    """
    try:
        since = datetime.fromisoformat(claim.since.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        # What a service says need not be a time.
        return False
    return now - since > LONG_CLAIM_SECONDS


def advice(discovery_id: str) -> str:
    """What ends one that waits for long."""
    return (
        "the daemon's log names it: stop that node for good, or wipe its data directory, then"
        f" `rqdisco leader clear {discovery_id} --yes`"
    )


def _times(claim: ClaimInfo) -> str:
    return "once" if claim.answered == 1 else f"{claim.answered} times"
