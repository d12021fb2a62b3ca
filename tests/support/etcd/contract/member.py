"""The member of etcd that a part of its contract is about."""

from __future__ import annotations

from itertools import count

import pytest

from tests.support.etcd.documents import revision
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Subject

_numbers = count(1)


class OneMember:
    """Fixtures of every part of the contract. The class of the tests adds the fixture `etcd`."""

    @pytest.fixture
    def at(self) -> str:
        """The start of the test's own keys."""
        return f"/test-{next(_numbers)}/"

    @pytest.fixture
    def now(self, etcd: Subject) -> int:
        """The revision before the test."""
        return revision(etcd.post("/v3/kv/range", {"key": b64("/none")}))
