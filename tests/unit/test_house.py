"""The shape of the house: who may know whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rqdisco
from rqdisco.errors import CannotStart, RequestRefused, StoreUnavailable
from rqdisco.tap import _STATUS
from rqdisco.web.answers import _REFUSALS

ROOT = Path(rqdisco.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
CORE = {
    "probing.judgement",
    "probing.outlook",
    "probing.targets",
    "access",
    "errors",
    "address",
    "counts",
    "tally",
    "ids",
    "names",
    "records",
    "spellings",
    "store",
    "codec",
    "transfer",
    "recipes",
}
CORE |= {"crowd", "dns.zone", "journal.frames", "rates", "visible"}
CORE |= {
    f"peers.{name}"
    for name in ("changes", "keyring", "members", "messages", "replication", "seals", "sightings", "standing")
}
STANDARD = (
    "base64 binascii bisect collections datetime functools hashlib ipaddress itertools json re shlex typing unicodedata"
)
STANDARD += " hmac urllib uuid zlib"
FOR_THE_CORE = {"__future__", "msgspec", *STANDARD.split()}

# Each layer may import those below it, and its own.
LAYERS = [
    {"tap", "cli.main"},
    {"cli.commands"},
    {"cli.leader", "cli.nodes", "cli.peers", "cli.prune", "cli.status", "cli.tokens", "cli.transfer", "cli.watch"},
    {"cli", "cli.app", "cli.durations", "cli.listing", "cli.options", "cli.sources"},
    {"cli.screen", "client"},
    {"client.connect"},
    {"client.api"},
    {"client.transport"},
    {"client.events", "client.exports"},
    {"client.documents", "client.errors", "client.peers", "client.urls"},
    {"assembly"},
    {"opening"},
    {"machine"},
    {"metrics.watch"},
    {"metrics.page"},
    {"metrics", "metrics.census", "metrics.sources", "metrics.stalls"},
    {"audit", "metrics.families"},
    {"audit_file"},
    {"probing.rounds"},
    {"probing.knock"},
    {"daemon"},
    {"listening", "options"},
    {"peers.assembly", "peers.process"},
    {"peers.office", "peers.resource"},
    {"peers.report"},
    {"peers.answers", "peers.routing"},
    {"peers.succession"},
    {"peers.peerset"},
    {"peers.agreement", "peers.exchange"},
    {"peers.taking_back"},
    {"peers.pulling"},
    {"peers.calls", "peers.hints", "peers.witnesses"},
    {"peers.peer"},
    {"peers", "peers.replication", "peers.sightings", "peers.standing"},
    {"peers.http_link"},
    {"peers.links", "peers.pace", "peers.changes", "peers.members", "peers.messages", "peers.seals"},
    {"peers.keyring"},
    {"local"},
    {"grants"},
    {"dns.door"},
    {"dns.answers"},
    {"dns", "dns.hosts", "dns.limits", "dns.system", "dns.wire"},
    {
        "web",
        "web.root",
    },
    {"web.front"},
    {"web.pages.door"},
    {"web.pages.elements", "web.pages.status"},
    {"web.pages", "web.pages.assets", "web.pages.snippets", "web.pages.words"},
    {"overview"},
    {"web.streams"},
    {"web.consul", "web.discovery", "web.health", "web.openapi.page", "web.operator", "web.proxied"},
    {"web.openapi", "web.openapi.document"},
    {"web.openapi.consul", "web.openapi.discovery", "web.openapi.operator", "web.openapi.pages"},
    {"web.openapi.examples", "web.openapi.parts", "web.openapi.schemas"},
    {"web.gate"},
    {
        "web.handling",
        "web.site",
        "web.answers",
        "web.deadlines",
        "web.request_ids",
        "web.pacing",
        "shield",
        "told",
        "health",
        "web.explain",
        "systemd",
        "logs",
        "tls",
        "journal.folder",
        "journal.child",
    },
    {"recent", "recipes", "watching"},
    {"probing", "probing.outlook", "probing.targets"},
    {"directory", "dns.zone", "events", "journal.timed", "others", "versions"},
    {"transfer"},
    {"state", "journal.writer", "journal.fold"},
    {"identity", "journal", "journal.recovery", "journal.segments", "journal.snapshot"},
    {"journal.reserve"},
    {"store", "journal.files", "journal.frames"},
    {"token_file"},
    {"access", "modes", "seldom"},
    {"codec", "ids", "names", "spellings"},
    {"records"},
    {"accepting", "crowd", "descriptors"},
    {"address", "counts", "errors", "probing.judgement", "rates", "tally", "visible", "__init__"},
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


def layer(name: str) -> int:
    (number,) = (number for number, names in enumerate(LAYERS) if name in names)
    return number


def test_every_module_has_its_place_in_the_house() -> None:
    assert set(MODULES) == set().union(*LAYERS)


@pytest.mark.parametrize("name", MODULES)
def test_dependencies_point_one_way(name: str) -> None:
    assert all(layer(other) >= layer(name) for other in own(name) - {name})


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
