"""Two daemons with one identity show; one that was started again is no twin of itself (R8)."""

from __future__ import annotations

from rqdisco.backends.gossip.membership.members import Session, Sessions

BEFORE = Session(incarnation="7606d09ec940d27c", run_id="1", name="a")
AFTER = Session(incarnation="7606d09ec940d27c", run_id="2", name="a")


def test_what_a_killed_daemon_had_sent_and_comes_late_does_not_make_a_twin_of_the_one_started_in_its_place() -> None:
    sessions = Sessions()
    sessions.begin("old", BEFORE)
    sessions.begin("new", AFTER)
    assert sessions.record_activity(AFTER) is None
    assert sessions.touch("old") is None
    assert sessions.touch("new") == AFTER
    assert sessions.duplicate_reason(AFTER) is None


def test_a_copy_that_runs_greets_anew_and_both_are_told() -> None:
    sessions = Sessions()
    sessions.begin("one", BEFORE)
    sessions.begin("other", AFTER)
    assert sessions.record_activity(AFTER) is None
    sessions.begin("one again", BEFORE)
    assert sessions.record_activity(BEFORE) is None
    sessions.begin("other again", AFTER)
    assert sessions.record_activity(AFTER) == "two daemons run as incarnation 7606d09ec940d27c"
    assert sessions.duplicate_reason(BEFORE) is not None
    assert sessions.duplicate_reason(AFTER) is not None
