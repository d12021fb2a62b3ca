"""Hints for operators who wrote an address in place of an endpoint, or whose port is taken."""

from __future__ import annotations

import errno
import os

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactor

from rqdisco.service.endpoint_hints import meant_endpoint, why_not_listening


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("4000", "tcp:4000"),
        (":4000", "tcp:4000"),
        ("*:4000", "tcp:4000"),
        ("0.0.0.0:4000", "tcp:4000"),
        ("10.0.0.10:4000", "tcp:4000:interface=10.0.0.10"),
        ("tcp:10.0.0.10:4000", "tcp:4000:interface=10.0.0.10"),
        ("localhost:4000", "tcp:4000:interface=localhost"),
        ("[::1]:4000", r"tcp:4000:interface=\:\:1"),
        ("http://10.0.0.10:4000/", "tcp:4000:interface=10.0.0.10"),
    ],
)
def test_an_address_leads_to_the_endpoint_that_was_meant(written: str, meant: str) -> None:
    assert meant_endpoint(written) == meant
    serverFromString(MemoryReactor(), meant)


@pytest.mark.parametrize("written", ["", "nonsense", "tcp:port", "tcp:4000:colour=red", "10.0.0.10", "a b:4000"])
def test_anything_else_leads_to_no_endpoint(written: str) -> None:
    assert meant_endpoint(written) is None


def failed(number: int) -> CannotListenError:
    return CannotListenError("", 4000, OSError(number, os.strerror(number)))


def test_a_port_in_use_and_an_address_of_another_machine_come_with_what_to_do() -> None:
    assert why_not_listening(failed(errno.EADDRINUSE)) == (
        "Address already in use; stop what listens there, or choose another port"
    )
    assert why_not_listening(failed(errno.EADDRNOTAVAIL)).endswith("; this machine has no such address")
    assert why_not_listening(failed(errno.EACCES)) == "Permission denied"
