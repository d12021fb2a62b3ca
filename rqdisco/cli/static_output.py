"""The output of commands that need no service."""

from __future__ import annotations

from typing import NamedTuple


class StaticOutput(NamedTuple):
    """The output of a command that needs no service: text for stdout, notes for stderr."""

    text: str
    notes: tuple[str, ...] = ()
