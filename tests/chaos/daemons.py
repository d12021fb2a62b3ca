"""Three peer daemons, each in a separate process, and all faults that can be applied to them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rqdisco.telemetry.events import ON_BEHALF
from tests.chaos.event_log import EventLog
from tests.chaos.links import Links
from tests.support.process import ANY_PORT, DaemonProcess

NAMES = "abc"
_KEY = "c2l4dGVlbiBieXRlcyBhcmUgZW5vdWdoIGhlcmU="
_IDENTITY = "identity.json"
_AGREE_SECONDS = 120.0
_ASK_SECONDS = 30.0
_POLL_SECONDS = 0.2
# Log lines within this time belong to one request.
_SAME_SECONDS = 0.05
# Levels of events about the daemons themselves that are worth printing beside an ID.
_NO_ANSWER = "no answer to a forwarded request"
_NOTABLE_LEVELS = ("warn", "error", "critical")


class NeverAgree(Exception):
    """The daemons are all up and all faults have ended, and they do not agree."""


class ThreeDaemons:
    """Daemons with their states below `directory`; `window` is in seconds. An async context
    manager.
    """

    def __init__(self, directory: Path, window: float) -> None:
        self._directory = directory
        self._window = window
        self.events = EventLog()
        self.links = Links(NAMES, self._pid)
        self._running: dict[str, DaemonProcess] = {}
        self._ended: list[tuple[str, DaemonProcess]] = []
        self._locks = {name: asyncio.Lock() for name in NAMES}
        self._copies: dict[str, list[tuple[str, Path]]] = {name: [] for name in NAMES}
        self._forgetting: list[asyncio.Task[None]] = []
        self.stopped: set[str] = set()
        # The incarnations that were lost with their disks, and those whose disk was an older one
        # for a while.
        self.lost: dict[str, float] = {}
        self.rolled_back: dict[str, list[float]] = {}
        (directory / "keys").write_text(f"{_KEY}\n")

    async def __aenter__(self) -> ThreeDaemons:
        await self.links.open()
        try:
            await asyncio.gather(*map(self._start, NAMES))
            await self._agree()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._forgetting:
            task.cancel()
        self.links.close()
        for name in list(self._running):
            await self._kill(name)

    def port(self, name: str) -> int | None:
        """Return the port of a daemon for clients, None while there is none."""
        daemon = self._running.get(name)
        return None if daemon is None else daemon.port

    def _pid(self, name: str) -> int | None:
        daemon = self._running.get(name)
        return None if daemon is None else daemon.process.pid

    def incarnation(self, name: str) -> str:
        """Return the incarnation of a daemon."""
        incarnation: str = json.loads((self._state(name) / _IDENTITY).read_bytes())["incarnation"]
        return incarnation

    # Faults.

    async def kill(self, name: str, down_seconds: float) -> None:
        """Send SIGKILL, and start again after a while."""
        async with self._locks[name]:
            self.events.log(f"FAULT {name} is killed")
            await self._kill(name)
            await asyncio.sleep(down_seconds)
            await self._start(name)

    async def stop(self, name: str, seconds: float) -> None:
        """Send SIGSTOP, and SIGCONT after a while."""
        async with self._locks[name]:
            self.events.log(f"FAULT {name} is stopped")
            self.stopped.add(name)
            self._running[name].process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._running[name].process.send_signal(signal.SIGCONT)
            self.stopped.discard(name)
            self.events.log(f"FAULT {name} goes on")

    async def copy(self, name: str) -> None:
        """Copy the current disk, to be restored later."""
        async with self._locks[name]:
            process = self._running[name].process
            kept = self._directory / f"{name}-{len(self._copies[name])}"
            process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.to_thread(shutil.copytree, self._state(name), kept)
            finally:
                process.send_signal(signal.SIGCONT)
            self._copies[name].append((self.incarnation(name), kept))
            self.events.log(f"{name}'s disk is copied")

    async def roll_back(self, name: str, down_seconds: float) -> None:
        """Kill, restore the oldest copy, and start. The identity stays the same file."""
        async with self._locks[name]:
            own = self.incarnation(name)
            kept = [path for incarnation, path in self._copies[name] if incarnation == own]
            if not kept:
                return
            await self._kill(name)
            self.events.log(f"FAULT {name} is killed, and its disk put back to {kept[0].name}")
            self.rolled_back.setdefault(own, []).append(time.time())
            state = self._state(name)
            for each in state.iterdir():
                if each.name != _IDENTITY:
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            shutil.copytree(kept[0], state, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_IDENTITY))
            await asyncio.sleep(down_seconds)
            await self._start(name)

    async def empty(self, name: str, down_seconds: float) -> None:
        """Kill, empty the disk, and start; an operator declares the old daemon lost at once."""
        async with self._locks[name]:
            await self._kill(name)
            lost = self.incarnation(name)
            self.events.log(f"FAULT {name} is killed, and its disk lost ({lost})")
            self.lost[lost] = time.time()
            shutil.rmtree(self._state(name))
            await asyncio.sleep(down_seconds)
            await self._start(name)
        self._forgetting.append(asyncio.create_task(self._forget(name)))

    async def heal(self) -> None:
        """End all faults. Return when all daemons agree. Raises NeverAgree."""
        self.links.heal()
        for name in NAMES:
            # A fault under way with this daemon ends by itself.
            async with self._locks[name]:
                pass
        self.events.log("FAULT none any more")
        await asyncio.gather(*self._forgetting)
        await self._agree()
        self.events.log("all daemons agree")

    # Reports.

    async def explained(self, name: str, discovery_id: str) -> Any:
        """Return the operator's explanation of an ID at a daemon, None if it has none."""
        try:
            explained = await self._operator(name, "GET", f"/{discovery_id}?explain=1")
        except (OSError, ValueError):
            return None
        return explained if "home" in explained else None

    def log_of(self, discovery_id: str) -> EventLog:
        """Return what the daemons logged of an ID, and of their own faults."""
        lines = []
        not_forwarded: set[tuple[str, str, int]] = set()
        for name, daemon in [*self._ended, *self._running.items()]:
            for event in list(daemon.events):
                about = event.get("discovery_id")
                general = about is None and (
                    event.get("level") in _NOTABLE_LEVELS
                    or event.get("event") in ("peer answers", "peers agree")
                    or str(event.get("event")).startswith("registrations from elsewhere")
                )
                if about == discovery_id or general:
                    at = _time_of(event)
                    if str(event["event"]).startswith(_NO_ANSWER):
                        # There is one for each request.
                        if (name, event["why"], int(at)) in not_forwarded:
                            continue
                        not_forwarded.add((name, event["why"], int(at)))
                    left = {key: value for key, value in event.items() if key not in _NO_NEWS}
                    lines.append((at, f"    log of {name}: {event['event']} {left or ''}"))
        return EventLog(lines)

    def answers_to(self, discovery_id: str, addr: str, since: float) -> list[str]:
        """Return the answers to registrations of an address in the daemons' logs; a killed daemon
        may not have logged one.
        """
        return [
            str(event["result"])
            for _, daemon in [*self._ended, *self._running.items()]
            for event in list(daemon.events)
            if event.get("event") == "registration"
            and event["discovery_id"] == discovery_id
            and event.get("addr") == addr
            and _time_of(event) >= since
        ]

    def listed_though_refused(self, discovery_id: str, owner: str, since: float) -> list[str]:
        """Return the nodes that a daemon listed to others on the owner's behalf although the owner,
        which it reached, had refused them.
        """
        found = []
        for _, daemon in [*self._ended, *self._running.items()]:
            up: dict[str, bool] = {}
            owners: dict[str, str] = {}
            unresponsive_at = 0.0
            for event in list(daemon.events):
                kind, at = event.get("event"), _time_of(event)
                if kind in ("peer answers", "peer does not answer"):
                    url = event["url"]
                    up[url] = kind == "peer answers"
                    owners[url] = event.get("incarnation") or owners.get(url, "")
                elif str(kind).startswith(_NO_ANSWER) and event["owner"] == owner:
                    unresponsive_at = at
                elif kind == "registration" and event["discovery_id"] == discovery_id and at >= since:
                    is_up = any(up[url] for url, incarnation in owners.items() if incarnation == owner)
                    if event["result"] == ON_BEHALF and is_up and at - unresponsive_at > _SAME_SECONDS:
                        found.append(str(event.get("addr")))
        return found

    def journal_of(self, discovery_id: str) -> list[str]:
        """Return what is written of an ID on each disk, in the order of writing."""
        return [
            f"{name}/{path.name}: {line.decode(errors='replace')[:400]}"
            for name in NAMES
            for path in sorted((self._state(name) / "journal").iterdir())
            for line in path.read_bytes().split(b"\n")
            if discovery_id.encode() in line
        ]

    @property
    def complaints(self) -> list[str]:
        """Return the faults that daemons logged of themselves, and tracebacks."""
        return [
            f"{name}: {text}"
            for name, daemon in [*self._ended, *self._running.items()]
            for text in (*(str(each["event"]) for each in daemon.complaints), *daemon.stderr.splitlines())
        ]

    def _state(self, name: str) -> Path:
        return self._directory / name

    def _socket(self, name: str) -> Path:
        return self._directory / f"{name}.sock"

    async def _start(self, name: str) -> None:
        port = ANY_PORT
        command = [
            *(str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", "rqdisco"),
            *(f"--data-dir={self._state(name)}", f"--listen={port}", f"--operator-socket={self._socket(name)}"),
            *(f"--name={name}", f"--peer-listen={port}", f"--advertise={self.links.url(name)}"),
            *(f"--peer-keys={self._directory / 'keys'}", f"--retry-window={self._window:g}"),
            *("--create-rate=0", "--client-rate=0"),
            *(f"--peer={self.links.url(other)}" for other in NAMES if other != name),
        ]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RQDISCO_")}
        daemon = await asyncio.to_thread(DaemonProcess, command, environment)
        self.links.targets[name] = int(daemon.wait_for("listening")["peers"][0].rpartition(":")[2])
        self._running[name] = daemon
        self.events.log(f"{name} listens")

    async def _kill(self, name: str) -> None:
        daemon = self._running.pop(name, None)
        self.links.targets.pop(name, None)
        if daemon is not None:
            await asyncio.to_thread(daemon.kill)
            self._ended.append((name, daemon))

    async def _agree(self) -> None:
        until = time.monotonic() + _AGREE_SECONDS
        while True:
            shown = []
            for name in NAMES:
                with suppress(OSError, ValueError):
                    shown.append(await self._operator(name, "GET", "/operator/peers"))
            if len(shown) == len(NAMES) and all(each["agreed"] and each["state"] == "established" for each in shown):
                return
            if time.monotonic() > until:
                raise NeverAgree(json.dumps(shown))
            await asyncio.sleep(_POLL_SECONDS)

    async def _forget(self, name: str) -> None:
        others = [each for each in NAMES if each != name]
        for turn in range(1 << 20):
            with suppress(OSError, ValueError):
                # The same daemon for a while: another one would refuse and name it.
                answer = await self._operator(others[turn // 100 % 2], "POST", "/operator/peers/forget", {"name": name})
                if "forgotten" in answer:
                    self.events.log(f"FAULT {name} as it was is forgotten: {answer}")
                    return
                if turn % 20 == 0:
                    self.events.log(f"{name} is not forgotten yet: {answer}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _operator(self, name: str, method: str, path: str, document: object = None) -> Any:
        """Return the answer on an operator socket. Raises OSError, ValueError."""
        body = b"" if document is None else json.dumps(document).encode()
        request = f"{method} {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        return json.loads(await asyncio.to_thread(_ask_socket, self._socket(name), request))


_NO_NEWS = ("time", "level", "source", "event", "discovery_id")


def _time_of(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def _ask_socket(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ASK_SECONDS)
        client.connect(str(path))
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2]
