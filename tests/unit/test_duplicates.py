"""Two daemons with one identity are noticed; a restarted one is no duplicate of itself (R8)."""

from __future__ import annotations

from rqdisco.backends.gossip.core.sessions import Sender, Sessions

BEFORE = Sender(incarnation="7606d09ec940d27c", run_id="1", name="a")
AFTER = Sender(incarnation="7606d09ec940d27c", run_id="2", name="a")


def test_a_late_message_of_a_killed_daemon_does_not_make_its_successor_a_duplicate() -> None:
    sessions = Sessions()
    sessions.begin("old", BEFORE)
    sessions.begin("new", AFTER)
    assert sessions.record_activity(AFTER) is None
    assert sessions.touch("old") is None
    assert sessions.touch("new") == AFTER
    assert sessions.duplicate_reason(AFTER.run_id) is None


def test_a_running_copy_greets_anew_and_both_are_stopped() -> None:
    sessions = Sessions()
    sessions.begin("one", BEFORE)
    sessions.begin("other", AFTER)
    assert sessions.record_activity(AFTER) is None
    sessions.begin("one again", BEFORE)
    assert sessions.record_activity(BEFORE) is None
    sessions.begin("other again", AFTER)
    assert sessions.record_activity(AFTER) == "two daemons run as incarnation 7606d09ec940d27c"
    assert sessions.duplicate_reason(BEFORE.run_id) is not None
    assert sessions.duplicate_reason(AFTER.run_id) is not None
