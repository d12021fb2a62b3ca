"""The answer to `GET /operator/peers`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rqdisco.client.peers import PeersDocument
from rqdisco.http.api.operator_documents import PeersAnswer

_MET = {"name": "b", "incarnation": "b" * 16, "url": "http://b:1", "state": "up", "last_contact": 0.1}
_MET |= {"lag": 3, "clock_offset_ms": -1, "agrees": True, "why": None}


@pytest.mark.parametrize(
    "peer",
    [
        _MET,
        {**_MET, "clock_offset_ms": None, "last_contact": None, "lag": None, "agrees": False, "why": "refused"},
        {**_MET, "state": "forgotten", "successor": "c"},
        {"url": "http://b:1", "state": "never met", "why": None},
    ],
)
def test_the_document_of_peers_is_sent_as_it_is_and_the_client_reads_it(peer: dict[str, Any]) -> None:
    shown = {"name": "a", "incarnation": "a" * 16, "url": "http://a:1", "state": "established", "agreed": True}
    shown |= {"hints": 0, "unwitnessed": 0, "frozen": None, "peers": [peer], "notes": []}
    sent = msgspec.json.encode(msgspec.convert(shown, PeersAnswer))
    assert msgspec.json.decode(sent) == shown
    assert str(peer.get("clock_offset_ms")).replace("None", "null") in sent.decode()
    document = msgspec.json.decode(sent, type=PeersDocument)
    assert document.peers[0].url == "http://b:1"
