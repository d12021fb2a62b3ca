"""The ages of record versions by the monotonic clock, to expire unused IDs after a time.

`expiry_sweep` adds a version from time to time, and asks for the newest one of a given age.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rqdisco.core.codec import Metadata
from rqdisco.core.records import Moment

# The ID of the timeline on disk, where it has another name.
_KEY = "!calendar"
_STEPS = 100


class _Timeline(msgspec.Struct, frozen=True, rename={"elapsed": "lived", "versions": "days"}):
    """Elapsed milliseconds up to the moment `at` of `boot`; `versions` pairs elapsed times with the
    newest version at each.
    """

    boot: int
    at: int
    elapsed: int
    versions: tuple[tuple[int, int], ...]


class VersionAges:
    """Find the versions that are at least `age_ms` old, in steps of a hundredth of that.

    Time counts while the machine runs, whether the daemon does or not; the wall clock is not used
    (P6). The time while the machine is off is unknown and does not count, nor does the part of a
    step before that.
    """

    def __init__(self, owner: str, age_ms: int, metadata: Iterable[Metadata] = ()) -> None:
        self._owner = owner
        self._age_ms = age_ms
        self._timeline: _Timeline | None = None
        for each in metadata:
            self.learn(each)

    def learn(self, metadata: Metadata) -> None:
        """Take the timeline from metadata on the disk; ignore other metadata."""
        if metadata.id == _KEY and metadata.owner == self._owner and metadata.content:
            self._timeline = msgspec.json.decode(metadata.content, type=_Timeline)

    def advance(self, now: Moment, newest: int) -> Metadata | None:
        """Return the timeline to write, None if no step has passed; `newest` is the highest version
        on the disk.
        """
        before = self._timeline
        if before is None:
            return self._encode(_Timeline(now.boot, now.ms, 0, ((0, newest),)))
        if before.boot != now.boot or now.ms < before.at:
            # A machine that was moved may restart its clock in the same boot.
            return self._encode(_Timeline(now.boot, now.ms, before.elapsed, before.versions))
        elapsed = self._elapsed(before, now)
        if elapsed - before.elapsed < max(1, self._age_ms // _STEPS):
            return None
        # Of the versions that are old enough only the newest matters.
        old = [each for each in before.versions if each[0] <= elapsed - self._age_ms][:-1]
        versions = (*before.versions[len(old) :], (elapsed, newest))
        return self._encode(_Timeline(now.boot, now.ms, elapsed, versions))

    def newest_aged(self, now: Moment) -> int:
        """Return the highest version that is at least `age_ms` old, 0 for none."""
        if self._timeline is None:
            return 0
        since = self._elapsed(self._timeline, now) - self._age_ms
        return max((version for elapsed, version in self._timeline.versions if elapsed <= since), default=0)

    @staticmethod
    def _elapsed(timeline: _Timeline, now: Moment) -> int:
        passed = now.ms - timeline.at if now.boot == timeline.boot else 0
        return timeline.elapsed + max(0, passed)

    def _encode(self, timeline: _Timeline) -> Metadata:
        return Metadata(id=_KEY, owner=self._owner, content=msgspec.json.encode(timeline).decode())
