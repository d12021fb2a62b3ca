"""DNS answers per second, the cost of each, and dnsmasq's answers to the same queries from the same
records.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from twisted.names import dns

from benchmarks.processes import HOST, BenchmarkFailed, Dnsmasq, Process, Rqdisco
from benchmarks.state import State, addresses_of

IDS = 1_000
CLIENTS = 32
_ZONE = "disco.example"
OPTIONS = ("--dns", f"{HOST}:0", "--dns-zone", _ZONE)
_SERVICE = "_rqlite-http._tcp"
_TTL = 1
_EDNS_SIZE = 1232
_TYPES = {dns.A: "A", dns.SRV: "SRV"}
_WARM_UP_SECONDS = 1.0
_START_SECONDS = 20.0
_NUMBERS = {
    "sent": r"Queries sent: +(\d+)",
    "lost": r"Queries lost: +(\d+)",
    "noerror": r"NOERROR (\d+)",
    "seconds": r"Run time \(s\): +([\d.]+)",
    "mean": r"Average Latency \(s\): +([\d.]+)",
    "worst": r"Average Latency .* max ([\d.]+)\)",
}


class Answers(NamedTuple):
    """The results of one run of dnsperf, and its cost to the daemon."""

    rate: float
    mean_ms: float
    worst_ms: float
    cpu_us: float


class Round(NamedTuple):
    """The runs of queries for the addresses of IDs, and for their services."""

    a: Answers
    srv: Answers


class _Node(NamedTuple):
    """A node as DNS has it; `target` is the name that stands for its address."""

    ip: str
    port: int
    target: str


class _Query(NamedTuple):
    """A query, and the records that answer it, each as a text, sorted."""

    name: str
    type: int
    answers: list[str]
    additional: list[str]


def rqdisco_round(state: State, directory: Path, seconds: float) -> Round:
    """Measure queries for the addresses of each ID in turn, repeatedly, then for its services."""
    with Rqdisco(state.directory, directory, *OPTIONS) as daemon:
        return daemon_round(daemon, state, directory, seconds)


def daemon_round(daemon: Rqdisco, state: State, directory: Path, seconds: float) -> Round:
    """The same, of a daemon that was started with OPTIONS."""
    port = daemon.dns_port()
    return Round(*(_measure(daemon, port, asked, directory, seconds) for asked in _questions(state)))


def dnsmasq_round(state: State, directory: Path, seconds: float) -> Round:
    """The same, the addresses from a server without services, which is faster: dnsmasq walks
    through all its SRV records for each query of any type.
    """
    hosts, services = directory / "hosts", directory / "services"
    hosts.write_text("".join(_host_lines(state)))
    services.write_text("".join(_service_lines(state)))
    runs = []
    for asked, config in zip(_questions(state), (Path("/dev/null"), services), strict=True):
        with Dnsmasq(directory, config, hosts, _TTL) as daemon:
            runs.append(_measure(daemon, daemon.port, asked, directory, seconds))
    return Round(*runs)


def _measure(daemon: Process, port: int, asked: Sequence[_Query], directory: Path, seconds: float) -> Answers:
    """Raises BenchmarkFailed unless all answers are those expected, and all queries of the run are
    answered.
    """
    _wait_for_answer(daemon, port, asked[0])
    for each in asked:
        _check(_ask(port, each), each)
    file = directory / "questions"
    file.write_text("".join(f"{each.name} {_TYPES[each.type]}\n" for each in asked))
    _dnsperf(port, file, _WARM_UP_SECONDS)
    used = daemon.cpu_seconds()
    done = _dnsperf(port, file, seconds)
    used = daemon.cpu_seconds() - used
    return Answers(
        rate=done["sent"] / done["seconds"],
        mean_ms=done["mean"] * 1e3,
        worst_ms=done["worst"] * 1e3,
        cpu_us=used * 1e6 / done["sent"],
    )


def _dnsperf(port: int, file: Path, seconds: float) -> dict[str, float]:
    """Query with EDNS, as rqlite does; each client waits for its answer before the next query."""
    load = ["-c", str(CLIENTS), "-q", str(CLIENTS), "-l", f"{seconds:.0f}", "-e"]
    command = ["dnsperf", "-s", HOST, "-p", str(port), "-d", str(file), *load]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    found = {name: re.search(pattern, finished.stdout) for name, pattern in _NUMBERS.items()}
    done = {name: float(match[1]) for name, match in found.items() if match is not None}
    if done.keys() != _NUMBERS.keys() or done["lost"] or not done["sent"] or done["noerror"] != done["sent"]:
        raise BenchmarkFailed(f"dnsperf: not every question got an answer: {finished.stdout}{finished.stderr}")
    return done


def _nodes(state: State) -> Iterator[tuple[str, list[_Node]]]:
    """Yield the name of each ID, and its nodes."""
    for index, discovery_id in enumerate(state.ids):
        name = f"{discovery_id}.{_ZONE}"
        found = (addr.rpartition(":") for addr in addresses_of(index))
        yield name, [_Node(ip, int(port), f"n-{ipaddress.ip_address(ip).packed.hex()}.{name}") for ip, _, port in found]


def _questions(state: State) -> tuple[list[_Query], list[_Query]]:
    """Return the queries for addresses, and those for services."""
    addresses, services = [], []
    for name, nodes in _nodes(state):
        ips = [_text(name, dns.Record_A(node.ip, _TTL)) for node in nodes]
        addresses.append(_Query(name, dns.A, sorted(ips), []))
        service = f"{_SERVICE}.{name}"
        places = [_text(service, dns.Record_SRV(1, 1, node.port, node.target, _TTL)) for node in nodes]
        targets = [_text(node.target, dns.Record_A(node.ip, _TTL)) for node in nodes]
        services.append(_Query(service, dns.SRV, sorted(places), sorted(targets)))
    return addresses, services


def _host_lines(state: State) -> Iterator[str]:
    for name, nodes in _nodes(state):
        for node in nodes:
            yield f"{node.ip} {name}\n{node.ip} {node.target}\n"


def _service_lines(state: State) -> Iterator[str]:
    for name, nodes in _nodes(state):
        for node in nodes:
            yield f"srv-host={_SERVICE}.{name},{node.target},{node.port},1,1\n"


def _wait_for_answer(daemon: Process, port: int, asked: _Query) -> None:
    since = time.monotonic()
    while True:
        try:
            _ask(port, asked, 0.2)
        except OSError:
            daemon.check_running(since, _START_SECONDS)
            time.sleep(0.02)
        else:
            return


def _ask(port: int, asked: _Query, seconds: float = 5.0) -> dns.Message:
    """Raises OSError where there is no answer in time."""
    question = dns.Message(id=1, recDes=1)
    question.addQuery(asked.name.encode(), asked.type)
    question.additional.append(dns.RRHeader(b"", dns.OPT, _EDNS_SIZE))
    answer = dns.Message()
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.connect((HOST, port))
        client.send(question.toStr())
        answer.fromStr(client.recv(65535))
    return answer


def _check(answer: dns.Message, asked: _Query) -> None:
    answers, additional = _texts(answer.answers), _texts(answer.additional)
    if answer.rCode or answer.trunc or (answers, additional) != (asked.answers, asked.additional):
        raise BenchmarkFailed(f"{asked} expected, RCODE {answer.rCode} with {answers} and {additional} answered")


def _texts(records: Sequence[dns.RRHeader]) -> list[str]:
    return sorted(_text(str(record.name), record.payload) for record in records if record.type != dns.OPT)


def _text(name: str, payload: object) -> str:
    return f"{name} {payload}"
