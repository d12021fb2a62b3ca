"""What there is to be said of a claim whose node has not reported that it leads, and is shown to nobody until then."""

from __future__ import annotations

from datetime import datetime

from rqdisco.client import Claim

# Where nothing is lost a node reports itself seconds after it won.
LONG_SECONDS = 60.0


def in_words(claim: Claim) -> str:
    """How it stands."""
    times = "once" if claim.answered == 1 else f"{claim.answered} times"
    return f"a node claimed to lead at {claim.since}, was told {times} that it won, and has not reported itself"


def waits_for_long(claim: Claim, now: float) -> bool:
    """Whether its node should have reported itself by now; `now` is in seconds since 1970, by this machine's clock."""
    try:
        since = datetime.fromisoformat(claim.since.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        # What a service says need not be a time.
        return False
    return now - since > LONG_SECONDS


def advice(discovery_id: str) -> str:
    """What ends one that waits for long."""
    return f"stop that node or wipe it, then `rqdisco leader clear {discovery_id} --yes`"
