"""The commands of a page of the documentation and what they print, and machines in memory that they
run on.

A page shows a terminal in a block of the language `console`. `a$ rqdisco peers` is a command on
machine a, the lines below it are its output. `rqdisco` is the real command against the daemon of
that machine; the commands of the system, which the tests have no machine for, do here to a daemon
and its disk in memory what they do to real ones.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NoReturn

from twisted.internet.task import Clock

from rqdisco.core.errors import CannotStart
from rqdisco.service.config import Config
from rqdisco.service.options import DaemonOptions
from rqdisco.service.wiring.gossip import check_without_peers
from rqdisco.service.wiring.storage import open_storage
from rqdisco.storage.identity import NAME
from tests.support.any_daemon import WALL_US, memory_system
from tests.support.daemon import STATE, Daemon, Threads, default_config
from tests.support.disk import ModelDisk
from tests.support.gossip import DirectNetwork, GossipDaemon, older, settle
from tests.support.operator import Operator
from tests.support.prepared_daemons import PreparedDaemon, over_peers

_PROMPT = re.compile(r"([a-z])\$ (.*)\Z")
_ASSIGNMENT = re.compile(r"([A-Z]+)=\$\((rqdisco .*)\)\Z")
_ANSWER = re.compile(r"\[y/N\]: ([yn])$", re.MULTILINE)
_SETTINGS = "cat /etc/rqdisco/env"
# What differs from run to run: ages, offsets of clocks, and incarnations, long and short.
_VARYING = (
    (re.compile(r"\d+ s ago"), "N s ago"),
    (re.compile(r"answered for \d+ \w+"), "answered for N s"),
    (re.compile(r"[+-]\d+\.\d s"), "+N s"),
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
)
_INCARNATION = re.compile(r"(?<![\w:.-])[0-9a-f]{4}(?:[0-9a-f]{12})?(?![\w:.-])")
_GAP = re.compile(r" {2,}")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
# Seconds between two commands: as long as a daemon needs to notice the other one of its name.
_PAUSE = 15


@dataclass(frozen=True)
class Step:
    """A command on a machine, and what the page says that it prints."""

    machine: str
    command: str
    output: tuple[str, ...]

    @property
    def answers(self) -> tuple[bool, ...]:
        """The answers to the questions in the output."""
        return tuple(answer == "y" for answer in _ANSWER.findall("\n".join(self.output)))


def sections(page: str, above: str) -> dict[str, list[Step]]:
    """Return the steps in each subsection of a section of a page."""
    _, _, section = page.partition(f"\n## {above}\n")
    found: dict[str, list[Step]] = {}
    for part in section.partition("\n## ")[0].split("\n### ")[1:]:
        title, _, text = part.partition("\n")
        found[title] = [step for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
                        for step in _steps(block)]  # fmt: skip
    return found


def _steps(block: str) -> Iterator[Step]:
    lines = block.splitlines()
    prompts = [number for number, text in enumerate(lines) if _PROMPT.match(text)]
    assert prompts[:1] == [0], f"begins without a prompt: {lines[:1]}"
    for begin, end in zip(prompts, [*prompts[1:], len(lines)], strict=True):
        prompt = _PROMPT.match(lines[begin])
        assert prompt is not None
        yield Step(prompt[1], prompt[2], tuple(lines[begin + 1 : end]))


class Machine:
    """A machine with a state directory, settings of a daemon, and perhaps a daemon."""

    def __init__(self, network: DirectNetwork, name: str, peers: str) -> None:
        self.network = network
        self.disk = ModelDisk()
        self.saved = ModelDisk()
        self.journal = ""
        self.settings = {
            "RQDISCO_NAME": name,
            "RQDISCO_PEER_LISTEN": "tcp:4005",
            "RQDISCO_ADVERTISE": f"http://{name}.example:4005",
            "RQDISCO_PEER": " ".join(f"http://{each}.example:4005" for each in peers if each != name),
            "RQDISCO_PEER_KEYS": "/etc/rqdisco/peer-keys",
        }
        self._runs = 0
        self.daemon: GossipDaemon | None = None
        self.alone: Daemon | None = None

    def start(self) -> None:
        """Start the daemon with the settings; if it refuses, its reason is in the journal."""
        options = DaemonOptions(self.settings)
        options.parseOptions([])
        self._runs += 1
        try:
            self._start(options.config)
        except CannotStart as refusal:
            self.journal = f"rqdisco: {refusal}".replace(str(STATE), "/var/lib/rqdisco")

    def _start(self, config: Config) -> None:
        self.disk.kill()
        if config.peers is not None:
            self.daemon = GossipDaemon(
                self.network,
                config.peers.advertise.removeprefix("http://"),
                [seed.removeprefix("http://") for seed in config.peers.seeds],
                called=config.peers.name,
                disk=self.disk,
                seed=self._runs,
            )
            return
        system = memory_system(self.network.clock, Random(self._runs), wall_us=lambda: WALL_US, fail=_fail)
        storage = open_storage(default_config(), system, self.disk, Threads())
        check_without_peers(default_config(), storage)
        self.disk.kill()
        self.alone = Daemon(self.disk, clock=self.network.clock, seed=self._runs)

    def stop(self) -> None:
        """Stop the daemon."""
        if self.daemon is not None:
            self.daemon.stop()
        self.daemon = self.alone = None

    def prepared(self) -> PreparedDaemon:
        """Return the daemon as its operator reaches it."""
        if self.daemon is not None:
            return over_peers(self.daemon)
        assert self.alone is not None, "no daemon runs here"
        return PreparedDaemon(self.alone.apis, "operator", self.network.clock, self.alone)


class Runbook:
    """Machines on which the steps of a page run, one after the other. Those in `running` have a
    daemon, which is the peer of the others; one alone has no peers.
    """

    def __init__(self, clock: Clock, running: str = "abc") -> None:
        self.network = DirectNetwork(clock)
        self._peers = running if len(running) > 1 else "abc"
        self._machines: dict[str, Machine] = {}
        self._variables: dict[str, str] = {}
        self._shown, self._seen = _Normalizer(), _Normalizer()
        for name in running:
            machine = self._machine(name)
            if len(running) == 1:
                machine.settings = {"RQDISCO_NAME": name}
            machine.start()
        settle(clock, 60)

    def run(self, step: Step) -> None:
        """Run a step. Raises AssertionError if it prints anything else than the page says."""
        output = self.output(step)
        settle(self.network.clock, _PAUSE)
        seen, shown = self._seen.normal(output), self._shown.normal("\n".join(step.output))
        assert seen == shown, f"{step.machine}$ {step.command} prints:\n{output}"

    def stop(self) -> None:
        """Stop all daemons."""
        for machine in self._machines.values():
            machine.stop()

    def _machine(self, name: str) -> Machine:
        if name not in self._machines:
            self._machines[name] = Machine(self.network, name, self._peers)
        return self._machines[name]

    def output(self, step: Step) -> str:
        """Run a step and return what it prints."""
        machine = self._machine(step.machine)
        if step.command == _SETTINGS:
            machine.settings = dict(line.split("=", 1) for line in step.output)
            return "\n".join(step.output)
        if assignment := _ASSIGNMENT.match(step.command):
            self._variables[assignment[1]] = self._command(machine, assignment[2], step)
            return ""
        if step.command.startswith("rqdisco "):
            return self._command(machine, step.command, step)
        return _SYSTEM[step.command](machine) or ""

    def _command(self, machine: Machine, line: str, step: Step) -> str:
        for name, value in self._variables.items():
            line = line.replace(f"${name}", value)
        operator = Operator(machine.prepared(), self.network.clock, *step.answers)
        status = operator.run(*shlex.split(line)[1:])
        assert status is not None, f"{line} runs on"
        return _STYLE.sub("", operator.shell.out.text + operator.shell.err.text).rstrip("\n")


class _Normalizer:
    """Replaces what differs from run to run; each incarnation by the number of its first
    appearance, so that two are never confused.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def normal(self, text: str) -> list[str]:
        """Return the lines of a text without what differs, and without the widths of columns."""
        for pattern, replacement in _VARYING:
            text = pattern.sub(replacement, text)
        text = _INCARNATION.sub(self._number, text)
        return [_GAP.sub("  ", line.rstrip()) for line in text.splitlines()]

    def _number(self, match: re.Match[str]) -> str:
        return f"incarnation {self._known.setdefault(match[0][:4], len(self._known))}"


def _fail(why: str) -> NoReturn:
    raise AssertionError(why)


def _restart(machine: Machine) -> None:
    machine.stop()
    settle(machine.network.clock, 0.5)
    machine.start()


def _move_away(machine: Machine) -> None:
    machine.disk = ModelDisk()


def _save(machine: Machine) -> None:
    machine.saved = older(machine.disk)


def _restore_volume(machine: Machine) -> None:
    machine.disk = machine.saved


def _restore_files(machine: Machine) -> None:
    """Restore a backup, which has no identity."""
    machine.disk = machine.saved
    machine.disk.remove(STATE / NAME)


_SYSTEM: dict[str, Callable[[Machine], str | None]] = {
    "systemctl start rqdisco": Machine.start,
    "systemctl stop rqdisco": Machine.stop,
    "systemctl restart rqdisco": _restart,
    "journalctl --unit rqdisco --output cat --lines 1": lambda machine: machine.journal,
    "mv /var/lib/rqdisco /var/lib/rqdisco.lost": _move_away,
    "cp -a /backup/rqdisco /var/lib/rqdisco": _restore_files,
    "cp -a /var/lib/rqdisco/journal /var/lib/rqdisco/snapshot.json /backup/rqdisco/": _save,
    "lvcreate --snapshot --size 1G --name monday vg/rqdisco": _save,
    "lvconvert --merge vg/monday": _restore_volume,
    # A newer release, whose files are the same here.
    "/opt/rqdisco/bin/pip install --upgrade /opt/src/rqdisco": lambda machine: None,
}

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
