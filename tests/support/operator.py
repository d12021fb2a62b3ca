"""An operator, who runs commands against one daemon in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock

from tests.support.command import Service, Shell
from tests.support.gossip import GossipDaemon, settle
from tests.support.prepared_daemons import PreparedDaemon, over_peers

# A daemon answers an operator within these steps of a fifth of a second.
_STEPS = 50


class OperatorShell(Shell):
    """A shell whose terminal shows the questions too, and the answers to them."""

    def _ask(self, question: str) -> bool:
        answer = super()._ask(question)
        self.err.write(f"{question} [y/N]: {'y' if answer else 'n'}\n")
        return answer


class Operator:
    """An operator of a daemon, at a terminal unless `terminal` is false, who gives these
    `answers`.
    """

    def __init__(self, prepared: PreparedDaemon, clock: Clock, *answers: bool, terminal: bool = True) -> None:
        self._clock = clock
        self._prepared = prepared
        self._service = Service(prepared.router)
        self.shell = OperatorShell(self._service, terminal=terminal, answers=answers)

    @classmethod
    def of(cls, daemon: GossipDaemon, *answers: bool, terminal: bool = True) -> Operator:
        """Return the operator of a daemon with peers."""
        return cls(over_peers(daemon), daemon.clock, *answers, terminal=terminal)

    def run(self, *arguments: str) -> int | None:
        """Run a command; return its exit status."""
        running = self.shell.start(*arguments)
        for _ in range(_STEPS):
            if running.status is not None:
                break
            settle(self._clock, 0.2)
            self._service.settle()
        return running.status

    @property
    def said(self) -> list[str]:
        """The messages of the last command, without questions."""
        return [line for line in self.shell.messages.splitlines() if line.startswith("rqdisco: ")]

    def document(self) -> Any:
        """Return what the API says of the peers."""
        return json.loads(self._prepared.ask("GET", "/operator/peers").body)

    def preview(self, name: str) -> Any:
        """Return what the API says that forgetting a peer would do."""
        return json.loads(self._prepared.ask("GET", f"/operator/peers/forget?name={name}").body)
