"""The memory of etcd of a daemon with a state directory, to notice at its next start that etcd was
restored from a backup (E8).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rqdisco.backends.etcd.meta import Meta
from rqdisco.backends.etcd.revisions import RevisionGuard
from rqdisco.backends.etcd.store_state import StoreState
from rqdisco.core.codec import UNREADABLE
from rqdisco.core.errors import DamagedState, StateUnusable
from rqdisco.security.atomic_file import replacing

NAME = "etcd.json"


class LastSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster and the highest revision that were seen, the store and its epoch, and the name of
    this daemon's machine in records. `went_back` is why nothing is granted in this epoch.
    """

    cluster_id: int
    revision: int
    store_id: str
    epoch: int
    machine: str
    went_back: str | None = None


def remember(guard: RevisionGuard, state: StoreState, machine: str) -> LastSeen | None:
    """Return what to remember, None if nothing is known yet."""
    if not state.is_known:
        return None
    seen, meta = guard.seen, state.meta
    return LastSeen(
        cluster_id=seen.cluster_id,
        revision=seen.revision,
        store_id=meta.store_id,
        epoch=meta.epoch,
        machine=machine,
        went_back=guard.went_back,
    )


def compare(before: LastSeen, meta: Meta, guard: RevisionGuard) -> None:
    """Stop grants if etcd went back since `before`. A higher epoch says that an operator restored
    it, and then nothing is compared.
    """
    if meta.epoch > before.epoch:
        return
    if meta.store_id != before.store_id:
        guard.notice(f"the store in etcd is another one ({meta.store_id}, before {before.store_id})")
    elif meta.epoch < before.epoch:
        guard.notice(f"the epoch of the store in etcd went back from {before.epoch} to {meta.epoch}")
    elif before.went_back is not None:
        guard.notice(before.went_back)
    else:
        _compare_revisions(before, guard)


def _compare_revisions(before: LastSeen, guard: RevisionGuard) -> None:
    seen = guard.seen
    if seen.cluster_id != before.cluster_id:
        guard.notice(f"etcd is another cluster ({seen.cluster_id:x}, before {before.cluster_id:x})")
    elif seen.revision < before.revision:
        guard.notice(f"etcd went back from revision {before.revision} to {seen.revision}")


class LastSeenFile:
    """The file in the state directory, which is created if needed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def load(self) -> LastSeen | None:
        """Return what was saved, None before the first time. Raises DamagedState, StateUnusable."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnusable(f"{error.filename}: {error.strerror}") from None
        try:
            return msgspec.json.decode(content, type=LastSeen)
        except UNREADABLE as error:
            raise DamagedState(
                f"{self._path}: {error}; delete it if etcd was not restored from a backup since"
            ) from None

    def save(self, remembered: LastSeen) -> None:
        """Replace the file. Raises OSError."""
        with replacing(self._path) as file:
            file.write(msgspec.json.encode(remembered) + b"\n")
