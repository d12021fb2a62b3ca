"""The discovery ID in what somebody pastes into a field: the ID, or an address that contains it."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from rqdisco.core.ids import is_id, is_valid_name

_LEADER_KEYS = "/v1/kv/"


def pasted_id(text: str) -> str | None:
    """Return the ID in the text, None if there is none.

    The text may be an ID, or the address of its page, its events, its leader key, or of the form
    that opens it.
    """
    text = text.strip()
    if "/" not in text:
        return text if is_id(text) else None
    try:
        parts = urlsplit(text if "://" in text or text.startswith("/") else f"//{text}")
    except ValueError:
        return None
    segments = [unquote(each) for each in parts.path.removeprefix(_LEADER_KEYS).split("/")]
    given = parse_qs(parts.query).get("id", [])
    return next((each for each in (*segments, *given) if is_valid_name(each)), None)
