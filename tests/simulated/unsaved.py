"""A comparison of the state of a daemon with the one that its next start would find on its disk."""

from __future__ import annotations

from collections.abc import Mapping

from rqdisco.backends.gossip.core import contacts
from rqdisco.backends.gossip.core.machine import Machine
from rqdisco.backends.gossip.core.state import State
from rqdisco.core import codec
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.storage.memory import Store


def unsaved(state: State, records: Mapping[bytes, bytes], metadata: Mapping[bytes, bytes]) -> list[str]:
    """Return the parts of the state that differ from those on its disk, whose lines are given, while
    nothing is being written.
    """
    if state.writes:
        return []
    decoded = [codec.decode_stored_metadata(key, rest) for key, rest in metadata.items()]
    found = [each for each in decoded if not each.is_empty]
    watermarks = ExpiryWatermarks(found)
    kept = {key: rest for key, rest in records.items() if not watermarks.covers_line(key, rest)}
    store = Store(kept, max(map(codec.peek_version, records.values()), default=0))
    restarted = Machine(state.config, store, found, watermarks, state.now).state
    ours, theirs = _parts(state), _parts(restarted)
    return [f"{name}: {ours[name]!r}, on the disk {theirs[name]!r}" for name in ours if ours[name] != theirs[name]]


def _parts(state: State) -> dict[str, object]:
    hints = [each for owner in state.hints.owners for each in state.hints.for_owner(owner)]
    return {
        "members": [contacts.as_stored(state, each) for each in state.members.all],
        "frozen": state.frozen,
        "owner of its IDs": state.members.current_owner(state.successor or state.own),
        "hints": sorted((each.hint.number, each.owner) for each in hints),
        "added hints": {owner: number for owner, number in state.hints.added.items() if number},
        "expiry watermarks": state.watermarks.all,
        # The own one is that of the records that still have this owner.
        "cursors": {owner: cursor for owner, cursor in state.cursors.summary[0].items() if owner != state.own},
        "records": {key: state.store.settled(key) for key in state.store.ids()},
    }
