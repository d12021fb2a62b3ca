"""The last hour, as operators see it."""

from __future__ import annotations

from twisted.internet.task import Clock

from rqdisco.telemetry.events import Event
from rqdisco.telemetry.recent import CREATED, GRANTED, MOST_CHANGES, REGISTERED, RecentActivity


def test_events_are_counted_by_the_minute_and_forgotten_after_an_hour() -> None:
    clock = Clock()
    recent = RecentActivity(clock.seconds, lambda: 0)
    recent(Event(kind="registration", outcome="granted"))
    clock.advance(120)
    for outcome in ("listed", "again", "refused", "listed on the owner's behalf"):
        recent(Event(kind="registration", outcome=outcome))
    recent(Event(kind="claim", outcome="granted"))
    recent(Event(kind="create", outcome="created"))
    assert recent.minutes(REGISTERED)[-3:] == (1, 0, 3)
    assert recent.minutes(GRANTED)[-3:] == (1, 0, 1)
    assert recent.minutes(CREATED)[-3:] == (0, 0, 1)
    clock.advance(57 * 60)
    assert sum(recent.minutes(REGISTERED)) == 4
    clock.advance(60)
    assert sum(recent.minutes(REGISTERED)) == 3
    clock.advance(10 * 24 * 3600)
    assert recent.minutes(REGISTERED) == (0,) * 60


def test_the_last_changes_are_kept_newest_first_and_bounded() -> None:
    moments = iter(range(1000))
    recent = RecentActivity(lambda: 0.0, lambda: next(moments))
    for number in range(100):
        recent(Event(kind="create", outcome="created", id=str(number), audited=number % 2 == 0))
    assert [each.event.id for each in recent.changes] == [
        str(number) for number in range(98, 98 - 2 * MOST_CHANGES, -2)
    ]
    assert [each.at for each in recent.changes][:3] == [49, 48, 47]
