"""The simulation of the machine, for as long as a test may take; `make simulate` runs many
more seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rqdisco.backends.gossip.core.effects import Effect, Send
from rqdisco.backends.gossip.core.inputs import Input, LookUp, Now, Requested
from rqdisco.backends.gossip.core.machine import Machine
from tests.simulated.__main__ import SIMULATION, main
from tests.simulated.command import faults_of
from tests.simulated.faults import EXPIRY, FAULTS, LOOPBACK
from tests.simulated.rules import RULES, without
from tests.simulated.schedule import Fault, Schedule, decode_schedule, read_schedule
from tests.simulated.shrink import Shrinker
from tests.simulated.steps import Steps
from tests.simulated.world import World

SEEDS = 6
# Runs that once found a bug; their headers say which.
KEPT = sorted((Path(__file__).parent / "schedules").glob("*.jsonl"))
# Runs that show the absence of a rule.
PROOFS = Path(__file__).parent / "proofs"


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
    assert not shrunk.messages
    assert not shrunk.calls


def test_steps_show_each_input_with_its_effects() -> None:
    steps = Steps(5, 60)
    World(1, 3, (), steps=steps).run()
    text = "\n".join(steps.lines)
    assert "<- Requested number=1 command=Create(" in text
    assert "-> Persist number=" in text
    assert "-> ClientReply number=1 result=Record(id=" in text
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


@pytest.mark.parametrize(
    ("given", "faults"),
    [("all", FAULTS), ("all,expiry", (*FAULTS, EXPIRY)), ("stalls,expiry", ("stalls", EXPIRY)), ("", ())],
)
def test_the_command_runs_the_named_faults_only(given: str, faults: tuple[str, ...]) -> None:
    assert faults_of(SIMULATION, Namespace(faults=given)) == faults


# Rules.


@dataclass(frozen=True)
class Noticed:
    """A rule, how its absence shows, and the faults that make it matter. A schedule in `proofs`
    shows it.
    """

    rule: str
    shows: str
    faults: tuple[str, ...]
    daemons: int = 3

    def __str__(self) -> str:
        return self.rule

    @property
    def schedule(self) -> Schedule:
        return read_schedule(PROOFS / f"{self.rule.replace(' ', '-')}.jsonl")


NOTICED = (
    Noticed("R1", "I1", ("answers", "partitions")),
    Noticed("R2 incarnation", "I3", ("disks",)),
    Noticed("R2 late", "I4", ("answers", "removals")),
    Noticed("R2 once", "I4", ("repeats", "removals")),
    Noticed("R3", "I1", ("partitions", "crashes")),
    Noticed("R4", "I4", ("partitions", "answers")),
    Noticed("R4 refusal", "R4", ("answers", "partitions", "removals", "crashes")),
    Noticed("R5a", "answer", ("answers",)),
    Noticed("R5b", "I1", ("partitions", "removals")),
    Noticed("R5c hidden", "R5c", ("answers",)),
    Noticed("R5c again", "I3", ("answers",)),
    Noticed("R5d", "R5d", (LOOPBACK,)),
    Noticed("R6 shown", "R6", ("answers", "crashes")),
    Noticed("R6 owner", "R6", ("answers", "stalls")),
    Noticed("R6 acknowledgement", "rollback", ("rollbacks",)),
    Noticed("R6 revoking", "I3", ("answers", "replacements")),
    Noticed("R7", "I1", ("partitions", "disks"), daemons=2),
    Noticed("R8 restart", "I1", ("rollbacks", "partitions"), daemons=2),
    Noticed("R8 reserved", "I7", ("clocks", "crashes", "partitions", EXPIRY)),
    Noticed("R8 own hints", "R8", ("answers", "partitions", "crashes", "stalls"), daemons=2),
    Noticed("R8 fence", "R8", ("copies", "removals")),
    Noticed("R9 arrival", "R9", ("removals",)),
    Noticed("R9 owner", "I9", ("removals", "partitions")),
    Noticed("P7 emptied", "I4", ("removals", EXPIRY)),
    Noticed("P7 tried", "I5", ("partitions", "answers", "stalls", "crashes", "replacements", "wipes", EXPIRY)),
    Noticed("P7 published", "I5", (EXPIRY,)),
    Noticed("P7 taken", "I5", ("partitions", "stalls", "answers", EXPIRY)),
)
# Changes of the code may change what a schedule does: then seeds are tried.
MORE_SEEDS = 40


@pytest.mark.parametrize("noticed", NOTICED, ids=str)
def test_a_disabled_rule_is_noticed(noticed: Noticed) -> None:
    for subject in (noticed.schedule, *range(MORE_SEEDS)):
        with without(noticed.rule):
            broken = World(subject, noticed.daemons, noticed.faults).run()
        if noticed.shows in broken.kinds:
            kept = World(subject, noticed.daemons, noticed.faults).run()
            assert kept.violations == []
            if noticed.shows not in kept.kinds:
                return
    pytest.fail(f"{noticed.rule} makes no difference")


def test_every_rule_has_a_proof() -> None:
    assert sorted(noticed.rule for noticed in NOTICED) == sorted(RULES)
    assert sorted(path.stem for path in PROOFS.glob("*.jsonl")) == sorted(rule.replace(" ", "-") for rule in RULES)


def test_a_rule_is_kept_again_after_a_run_without_it() -> None:
    seed, faults = 7, ("answers", "partitions")
    before = World(seed, 3, faults).run().trace
    with without("R1"):
        assert World(seed, 3, faults).run().trace != before
    assert World(seed, 3, faults).run().trace == before
