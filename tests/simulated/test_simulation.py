"""What the simulator proves of the machine in the time a test may take; `make simulate` runs many
more seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rqdisco.backends.gossip.core.effects import Effect, Send
from rqdisco.backends.gossip.core.inputs import Input, LookUp, Now, Requested
from rqdisco.backends.gossip.core.machine import Machine
from tests.simulated.__main__ import main
from tests.simulated.faults import EXPIRY, FAULTS
from tests.simulated.rules import RULES, without
from tests.simulated.schedule import Fault, Schedule, decode_schedule, read_schedule
from tests.simulated.shrink import Shrinker
from tests.simulated.steps import Steps
from tests.simulated.world import World

SEEDS = 6
# Runs that once found a bug; their headers say which.
KEPT = sorted((Path(__file__).parent / "schedules").glob("*.jsonl"))


@pytest.fixture(autouse=True)
def forget_alarms(logged_errors: list[Any]) -> Iterator[None]:
    """Duplicates and conflicts are errors to daemons, and intended here."""
    yield
    logged_errors.clear()


@pytest.mark.parametrize("daemons", [2, 3, 5])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_promise_is_broken_by_any_fault(daemons: int, seed: int) -> None:
    # In every other run each message passes through its bytes.
    result = World(seed, daemons, FAULTS, as_bytes=seed % 2 == 0).run()
    assert result.violations == [], "\n".join(result.trace)


@pytest.mark.parametrize("seed", range(4))
def test_no_promise_is_broken_where_unused_ids_are_forgotten(seed: int) -> None:
    result = World(seed, 3, (*FAULTS, EXPIRY)).run()
    assert result.violations == [], "\n".join(result.trace)


@pytest.mark.parametrize("seed", range(3))
def test_every_cluster_forms_and_nobody_is_refused_without_faults(seed: int) -> None:
    result = World(seed, 3, ()).run()
    assert result.violations == []
    assert result.excused == []
    assert result.counts["formed"] > 0


def test_a_run_is_the_same_whether_messages_pass_through_their_bytes() -> None:
    assert World(5, 3, as_bytes=True).run().trace == World(5, 3).run().trace


def test_a_daemon_that_finds_no_room_at_its_start_starts_once_there_is_some() -> None:
    # A disk is lost, and the new one is full from the start.
    schedule = World(1, 3, ()).schedule
    schedule.faults = [
        Fault(30.0, "lose_disk", {"host": "b", "back": 5.0}),
        Fault(31.0, "fill", {"host": "b", "seconds": 6.0}),
    ]
    trace = World(schedule).run().trace
    assert any("b cannot start: no room" in line for line in trace)
    assert sum("b starts as" in line for line in trace) == 2


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    code = "from tests.simulated.world import World; print(World(7, 3).run().digest)"
    digests = set()
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
        digests.add(run.stdout)
    assert len(digests) == 1


# Schedules.


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_fixed_bug_has_not_come_back(path: Path) -> None:
    schedule = read_schedule(path)
    assert schedule.header.why
    result = World(schedule).run()
    assert result.violations == [], f"{schedule.header.why}\n" + "\n".join(result.trace)


def _recorded(seed: int, faults: tuple[str, ...] = FAULTS) -> tuple[list[str], Schedule]:
    """Return the trace of a run, and its schedule as a file holds it."""
    world = World(seed, 3, faults)
    trace = world.run().trace
    return trace, decode_schedule(world.schedule.without_unused().lines())


@pytest.mark.parametrize("seed", range(5))
def test_a_replayed_schedule_is_the_same_run(seed: int) -> None:
    trace, schedule = _recorded(seed, (*FAULTS, EXPIRY) if seed == 4 else FAULTS)
    assert World(schedule).run().trace == trace


class Talkative(Machine):
    """Sends one digest more."""

    def receive(self, given: Input, now: Now) -> list[Effect]:
        effects = super().receive(given, now)
        more = [each for each in effects if isinstance(each, Send) and each.verb == "digest"]
        if more and not hasattr(self, "has_talked"):
            self.has_talked = True
            effects.append(Send(-1, more[0].url, "digest", more[0].message, more[0].seconds, more[0].link))
        return effects


@pytest.mark.parametrize("seed", range(5))
def test_a_schedule_does_the_same_to_daemons_that_send_another_message(seed: int) -> None:
    _, schedule = _recorded(seed, ("crashes", "partitions", "stalls", "answers"))
    replayed = World(schedule, make=Talkative)
    assert replayed.run().violations == []
    assert replayed.schedule.faults == schedule.faults


class Fragile(Machine):
    """Fails at the first lookup once it started with records."""

    def receive(self, given: Input, now: Now) -> list[Effect]:
        if isinstance(given, Requested) and isinstance(given.command, LookUp) and self.state.began_with_records:
            raise RuntimeError("broken")
        return super().receive(given, now)


def test_a_failing_schedule_shrinks_to_the_fault_that_makes_it_fail() -> None:
    world = World(3, 3, ("crashes", "answers", "partitions", "stalls"), Fragile)
    assert any("broken" in each for each in world.run().violations)

    def run(schedule: Schedule) -> tuple[set[str], Schedule]:
        replayed = World(schedule, make=Fragile)
        return {each.split(" ")[1] for each in replayed.run().violations}, replayed.schedule

    shrunk = Shrinker(run).shrink(world.schedule)
    assert [each.kind for each in shrunk.faults] == ["crash"]
    assert shrunk.messages == shrunk.calls == {}


def test_steps_show_each_input_with_its_effects() -> None:
    steps = Steps(5, 60)
    World(1, 3, (), steps=steps).run()
    text = "\n".join(steps.lines)
    assert "<- Requested request=1 command=Create(" in text
    assert "-> Persist write=" in text
    assert "-> ClientReply request=1 result=Record(id=" in text
    assert "steps that change nothing" in text


def test_the_command_records_and_replays_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["simulated", *words])
        assert main() == 0
        return capsys.readouterr().out

    path = str(tmp_path / "schedule.jsonl")
    shown = command("--seed", "3", "--record", path, "--show")
    assert "all faults end" in shown
    assert command("--replay", path, "--show") == shown
    assert "<- Started" in command("--replay", path, "--step", "--until", "1")


# Rules.


@dataclass(frozen=True)
class Noticed:
    """A rule, the fault that makes it matter, how its absence shows, and a seed that shows it."""

    rule: str
    shows: str
    faults: tuple[str, ...]
    seed: int
    daemons: int = 3

    def __str__(self) -> str:
        return self.rule


NOTICED = (
    Noticed("R2 once", "I4", ("repeats", "removals"), 140),
    Noticed("R5a", "answer", ("answers",), 1),
)
# Changes of the code may change what a seed does: then others are tried.
MORE_SEEDS = 40


@pytest.mark.parametrize("noticed", NOTICED, ids=str)
def test_a_disabled_rule_is_noticed(noticed: Noticed) -> None:
    for seed in (noticed.seed, *range(MORE_SEEDS)):
        broken = World(seed, noticed.daemons, noticed.faults, without(noticed.rule)).run()
        if noticed.shows in broken.kinds:
            regression = World(seed, noticed.daemons, noticed.faults).run()
            assert regression.violations == []
            if noticed.shows not in regression.kinds:
                return
    pytest.fail(f"{noticed.rule} makes no difference")


def test_every_rule_has_a_proof() -> None:
    assert sorted(noticed.rule for noticed in NOTICED) == sorted(RULES)
