"""The shape of the house: who may know whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rqdisco
from rqdisco.errors import CannotStart, RequestRefused, StoreUnavailable
from rqdisco.tap import _STATUS
from rqdisco.web.requests.answers import _REFUSALS

ROOT = Path(rqdisco.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
CORE = {
    "errors",
    "expiry",
    "home.calendar",
    "address",
    "ids",
    "names",
    "records",
    "spellings",
    "tally",
    "store",
    "codec",
    "transfer",
    "recipes",
}
CORE |= {
    "binding",
    "transitions",
    "views",
    "visible",
    "access.tokens",
    "dns.zone",
    "journal.frames",
    "limits.crowd",
    "limits.rates",
    "limits.sparing",
    "observability.counts",
    "observability.leaders",
}
CORE |= {"probing.judgement", "probing.outlook", "probing.targets"}
CORE |= {f"resolving.{name}" for name in ("fair_map", "fair_queue", "memory", "places")}
CORE |= {"peers.membership.members", "peers.membership.sightings", "peers.membership.standing"}
CORE |= {f"peers.replication.{name}" for name in ("changes", "cursors", "order", "packed")}
CORE |= {"peers.wire.keyring", "peers.wire.messages", "peers.wire.seals"}
STANDARD = "array base64 binascii bisect collections datetime functools hashlib ipaddress itertools json math re shlex"
STANDARD += " hmac typing unicodedata urllib uuid zlib"
FOR_THE_CORE = {"__future__", "msgspec", *STANDARD.split()}

# Each room may know those below it; what stands in no room is named by itself.
ROOMS = [
    "tap",
    "cli",
    "client",
    "process",
    "metrics",
    "peers",
    "peers.replication",
    "peers.membership",
    "peers.wire",
    "web",
    "web.openapi",
    "web.pages",
    "web.doors",
    "web.connections",
    "web.requests",
    "recipes",
    "dns",
    "probing",
    "resolving",
    "home",
    "directory",
    "transfer",
    "journal",
    "observability",
    "expiry",
    "store",
    "tally",
    "spellings",
    "codec",
    "access",
    "limits",
    "replacing",
    "names",
    "ids",
    "views",
    "transitions",
    "binding",
    "records",
    "address",
    "visible",
    "errors",
    "__init__",
]


def imported(name: str) -> set[str]:
    tree = ast.parse(MODULES[name].read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def own(name: str) -> set[str]:
    return {other.removeprefix("rqdisco.") for other in imported(name) if other.startswith("rqdisco.")} & set(MODULES)


def room(name: str) -> int:
    rooms = [room for room in ROOMS if name == room or name.startswith(f"{room}.")]
    return ROOMS.index(max(rooms, key=len))


@pytest.mark.parametrize("name", MODULES)
def test_dependencies_point_one_way(name: str) -> None:
    assert all(room(other) >= room(name) for other in own(name))


def test_no_two_modules_need_each_other() -> None:
    reach = {name: own(name) - {name} for name in MODULES}
    for _ in MODULES:
        reach = {name: near.union(*(reach[other] for other in near)) for name, near in reach.items()}
    assert [name for name, near in reach.items() if name in near] == []


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_knows_no_twisted_no_clock_no_randomness_and_no_disk(name: str) -> None:
    foreign = {other.split(".")[0] for other in imported(name) if not other.startswith("rqdisco")}
    assert foreign <= FOR_THE_CORE
    assert "open" not in {
        node.id for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Name)
    }


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"tap"}))
def test_only_tap_names_the_reactor(name: str) -> None:
    assert "twisted.internet.reactor" not in imported(name)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"tap", "cli.main", "journal.fold"}))
def test_clocks_and_randomness_come_in_through_constructors(name: str) -> None:
    assert not imported(name) & {"time", "random", "secrets"}
    tree = ast.parse(MODULES[name].read_text())
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"urandom", "uuid1", "uuid4", "utcnow", "today", "monotonic", "time_ns"}
    assert "datetime.now" not in ast.unparse(tree)


@pytest.mark.parametrize("name", MODULES)
def test_only_the_web_knows_klein(name: str) -> None:
    foreign = {other.split(".")[0] for other in imported(name)}
    assert name.startswith("web.") or not foreign & {"klein", "werkzeug"}


def kinds(base: type[Exception]) -> set[type[Exception]]:
    return {kind for direct in base.__subclasses__() for kind in (direct, *kinds(direct))}


def test_whatever_can_go_wrong_has_an_answer_or_an_exit_code() -> None:
    assert kinds(RequestRefused) | {StoreUnavailable} <= set(_REFUSALS)
    assert kinds(CannotStart) == set(_STATUS)
