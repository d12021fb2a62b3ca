"""Bounded memory and turns that IDs share: the largest user yields, and nobody waits behind
another's thousands.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.probes.resolution.cache import ResolutionCache
from rqdisco.probes.resolution.fair_map import FairMap
from rqdisco.probes.resolution.fair_queue import FairQueue

MOST = 6
IDS = st.sampled_from("abc")
STEPS = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "pop"]), IDS, st.integers(0, 9)))


class Job(msgspec.Struct, frozen=True):
    """Something to do for an ID."""

    discovery_id: str
    number: int


class Work:
    """Jobs in the order they were begun, some of which continue."""

    def __init__(self, at_once: int = 4, of_one: int = 2, most: int = 1000) -> None:
        self.begun: list[Job] = []
        self.going_on: list[Job] = []
        self.ends_at_once = False
        self.queue: FairQueue[Job] = FairQueue(
            self.start, max_running=at_once, max_running_per_id=of_one, capacity=most
        )

    def start(self, job: Job) -> None:
        self.begun.append(job)
        self.going_on.append(job)
        if self.ends_at_once:
            self.end(job)

    def end(self, job: Job) -> None:
        self.going_on.remove(job)
        self.queue.finished(job)

    def add(self, discovery_id: str, count: int) -> None:
        for number in range(count):
            self.queue.add(Job(discovery_id, number))

    def names(self) -> list[str]:
        return [f"{job.discovery_id}{job.number}" for job in self.begun]


@given(STEPS)
def test_a_full_map_evicts_the_oldest_entry_of_the_id_with_most(steps: list[tuple[str, str, int]]) -> None:
    fair: FairMap[int, str] = FairMap(MOST)
    model: dict[int, str] = {}
    for what, discovery_id, key in steps:
        before = model.pop(key, None)
        if what == "pop":
            assert fair.pop(key) == (None if before is None else before + str(key))
        else:
            model[key] = discovery_id
            lost = fair.put(discovery_id, key, discovery_id + str(key))
            sizes = Counter(model.values())
            if len(model) > MOST:
                assert lost is not None
                assert sizes[lost[0]] == max(sizes.values())
                assert int(lost[1:]) == next(key for key, each in model.items() if each == lost[0])
                del model[int(lost[1:])]
            else:
                assert lost is None
        assert len(fair) == len(model) <= MOST
        assert {key: fair.get(key) for key in range(10)} == {
            key: model[key] + str(key) if key in model else None for key in range(10)
        }
        for each in "abc":
            own = [key for key, of in model.items() if of == each]
            assert fair.count(each) == len(own)
            assert not own or fair.oldest(each) == own[0]


def test_ids_take_turns_however_many_jobs_each_has() -> None:
    work = Work()
    work.add("a", 1000)
    work.add("b", 3)
    work.add("c", 1)
    assert work.names() == ["a0", "a1", "b0", "b1"]
    work.end(work.going_on[0])
    work.end(work.going_on[0])
    assert work.names()[4:] == ["c0", "a2"]
    work.end(Job("b", 0))
    work.end(Job("b", 1))
    assert work.names()[6:] == ["a3", "b2"]


def test_an_id_with_endless_jobs_leaves_room_for_all_others() -> None:
    work = Work()
    work.add("a", 1000)
    work.add("b", 100)
    for number in range(100):
        work.end(Job("b", number))
    assert work.names() == ["a0", "a1", *(f"b{number}" for number in range(100))]


def test_a_full_queue_drops_the_oldest_job_of_the_id_with_most_and_no_other() -> None:
    work = Work(most=10)
    work.add("a", 11)
    work.add("b", 2)
    assert [work.queue.add(Job("b", number)) for number in (2, 3, 4)] == [None, Job("a", 2), Job("a", 3)]
    assert len(work.queue) == 10


def test_jobs_that_end_at_once_are_done_however_many_wait() -> None:
    work = Work(at_once=1, of_one=1, most=5000)
    work.add("a", 5000)
    work.ends_at_once = True
    work.end(Job("a", 0))
    assert len(work.begun) == 5000
    assert not work.going_on


def test_a_withdrawn_job_takes_no_turn() -> None:
    work = Work(at_once=1)
    work.add("a", 1)
    work.add("b", 1)
    work.add("c", 1)
    work.queue.withdraw(Job("b", 0))
    work.end(Job("a", 0))
    assert work.names() == ["a0", "c0"]


@given(st.lists(st.tuples(st.sampled_from(["add", "end", "withdraw"]), IDS, st.integers(0, 30)), max_size=100))
def test_the_job_limit_holds_and_no_job_waits_while_it_might_run(
    steps: list[tuple[str, str, int]],
) -> None:
    work = Work(at_once=3, of_one=2, most=8)
    waiting: set[Job] = set()
    for what, discovery_id, number in steps:
        job = Job(discovery_id, number)
        if what == "end":
            if job in work.going_on:
                work.end(job)
        elif what == "withdraw":
            work.queue.withdraw(job)
            waiting.discard(job)
        elif job not in work.going_on and job not in waiting:
            waiting.add(job)
            waiting -= {work.queue.add(job)}
        waiting -= set(work.going_on)
        running = Counter(each.discovery_id for each in work.going_on)
        assert len(work.going_on) <= 3
        assert max(running.values(), default=0) <= 2
        assert len(work.queue) == len(waiting) <= 8
        if len(work.going_on) < 3:
            assert all(running[each.discovery_id] == 2 for each in waiting)


def test_a_name_is_cached_as_long_as_an_id_with_room_needs_it() -> None:
    memory = ResolutionCache(10)
    for name in ("one", "two"):
        memory.claim("quiet", name).ips = ("10.0.0.1",)
    for number in range(1000):
        for name in ("one", "two", f"n{number}"):
            memory.claim("noisy", name)
    assert len(memory) <= 10
    assert [memory.claim("quiet", name).ips for name in ("one", "two")] == [("10.0.0.1",)] * 2
    assert memory.get("n0") is None
