"""Decoders of messages by their verb. They raise one of UNREADABLE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rqdisco.backends.gossip.core.messages import VERBS

Decode = Callable[[bytes], Any]

# The decoders of requests and of their answers.
REQUESTS: dict[str, Decode] = {verb: msgspec.json.Decoder(kinds[0]).decode for verb, kinds in VERBS.items()}
ANSWERS: dict[str, Decode] = {verb: msgspec.json.Decoder(kinds[1]).decode for verb, kinds in VERBS.items()}
