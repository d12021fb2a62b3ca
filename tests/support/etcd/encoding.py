"""Bytes as the JSON gateway writes them."""

from __future__ import annotations

import base64


def b64(text: str) -> str:
    """Return a key or a value in base64."""
    return base64.b64encode(text.encode()).decode()
