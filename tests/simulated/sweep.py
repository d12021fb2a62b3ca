"""The service that deletes unused IDs (`backends.single.expiry_sweep`), on the time and the disk
of a simulated daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from rqdisco.backends.gossip.core import decide
from rqdisco.backends.single.expiry_sweep import ExpirySweeper, OwnIDs
from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.storage.memory import Change
from rqdisco.telemetry.events import Events

if TYPE_CHECKING:
    from tests.simulated.boots import Boot

_INTERVAL_SECONDS = 3.0


class Sweep:
    """The service of one run of a daemon; it ends with that."""

    def __init__(
        self, boot: Boot, watermarks: ExpiryWatermarks, metadata: Sequence[Metadata], unused_seconds: float
    ) -> None:
        adapter: Any = _Adapter(boot)
        ages = VersionAges(boot.owner, int(unused_seconds * 1000), metadata)
        own = OwnIDs(
            owner=boot.owner,
            now=lambda: boot.now().moment,
            version_ages=ages,
            may_expire=lambda: decide.may_expire(boot.state),
            has_pending_grant=lambda key: key in boot.state.pending_grants,
        )
        self._service = ExpirySweeper(
            adapter, boot.store, adapter, watermarks, Events(), own, interval=_INTERVAL_SECONDS
        )

    def start(self) -> None:
        """Begin."""
        self._service.startService()


class _Adapter:
    """The clock and the journal that the service uses; it never cancels anything."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> None:
        self._boot.later(delay, call, *args)

    def append(self, *changes: Change) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()

        def done(reason: str | None) -> None:
            waiter.callback(None) if reason is None else waiter.errback(StoreUnavailable(reason))
            self._boot.rests.change()

        self._boot.rests.change()
        self._boot.journal.append(changes, done)
        return waiter
