"""The layout of the package: which module may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

import rqdisco
from rqdisco.core.errors import CannotStart, RequestRefused, StoreUnavailable
from rqdisco.http.requests.responses import _ERROR_KINDS
from rqdisco.tap import _STATUS

ROOT = Path(rqdisco.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
# Modules outside `core` that use no Twisted, clock, randomness or disk either.
PURE = {
    "backends.etcd.response_shape",
    "backends.etcd.attempts",
    "backends.etcd.counts",
    "backends.etcd.endpoints",
    "backends.gossip.transport.decoders",
    "backends.gossip.transport.keyring",
    "backends.gossip.transport.seals",
    "backends.single.version_ages",
    "dns.zone",
    "http.server.forwarded",
    "limits.connection_limiter",
    "limits.event_sampler",
    "limits.log_throttle",
    "limits.rates",
    "node_commands",
    "probes.node_health",
    "probes.probe_state",
    "probes.resolution.cache",
    "probes.resolution.fair_map",
    "probes.resolution.fair_queue",
    "probes.targets",
    "recipes.flags",
    "recipes.parsing",
    "recipes.quoting",
    "security.tokens",
    "storage.memory",
    "storage.node_counter",
    "storage.wal.frames",
    "telemetry.counters",
}
CORE = {name for name in MODULES if name.startswith(("core.", "backends.gossip.core."))} | PURE
STANDARD = (
    "array base64 binascii bisect collections datetime enum functools hashlib ipaddress itertools json math re shlex"
)
STANDARD += " contextlib dataclasses heapq hmac typing unicodedata urllib uuid weakref zlib"
FOR_THE_CORE = {"__future__", "msgspec", *STANDARD.split()}

PRIVATE_IN_TWISTED = {
    "_factory",
    "_receivedHeaderCount",
    "_receivedHeaderSize",
    "_respondToBadRequestAndDisconnect",
    "disconnecting",
    "doRead",
    "numberAccepts",
    "timeOut",
}

# The floors of the package, from the ground up. A package may import from the floors below it and
# from itself.
FLOORS = [
    {"", "core", "coroutines", "request_body", "twisted_compat"},
    {"limits", "telemetry", "security", "recipes", "http_client"},
    {"node_commands", "storage"},
    {"backends"},
    {"probes"},
    {"dns", "http"},
    {"service"},
    {"tap"},
]
# The client library uses the wire format and nothing of the daemon.
APART = {"client"}
# Packages on top of everything, the client included.
ON_TOP = {"cli"}


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


def package(name: str) -> str:
    return name.partition(".")[0].replace("__init__", "")


def may_import(importer: str, imported: str) -> bool:
    """Report whether package `importer` may import from package `imported`."""
    if imported in (importer, ""):
        return True
    if importer in APART:
        return False
    if importer in ON_TOP:
        return True
    floors = {each: height for height, floor in enumerate(FLOORS) for each in floor}
    return imported in floors and floors[imported] < floors[importer]


def upward(modules: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return the imports that point up or sideways out of their package."""
    return [
        (name, other)
        for name, others in modules.items()
        for other in others
        if not may_import(package(name), package(other))
    ]


def test_every_package_has_its_floor() -> None:
    assert {package(name) for name in MODULES} == set().union(*FLOORS) | APART | ON_TOP


def test_imports_point_down() -> None:
    assert upward({name: own(name) for name in MODULES}) == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("core.records", "storage.memory"),
        ("telemetry.events", "security.tokens"),
        ("backends.single.directory", "http.router"),
        ("dns.server", "http.router"),
        ("client.api", "core.ids"),
        ("recipes.flags", "cli.main"),
        ("service.options", "tap"),
    ],
)
def test_an_import_that_points_up_is_found(importer: str, imported: str) -> None:
    assert upward({importer: [imported]}) == [(importer, imported)]


def test_no_two_modules_need_each_other() -> None:
    reach = {name: own(name) - {name} for name in MODULES}
    for _ in MODULES:
        reach = {name: near.union(*(reach[other] for other in near)) for name, near in reach.items()}
    assert [name for name, near in reach.items() if name in near] == []


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_uses_no_twisted_no_clock_no_randomness_and_no_disk(name: str) -> None:
    foreign = {other.split(".")[0] for other in imported(name) if not other.startswith("rqdisco")}
    assert foreign <= FOR_THE_CORE
    assert "open" not in {
        node.id for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Name)
    }


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"tap"}))
def test_only_tap_names_the_reactor(name: str) -> None:
    assert "twisted.internet.reactor" not in imported(name)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"tap", "cli.main", "storage.compaction"}))
def test_clocks_and_randomness_come_in_through_constructors(name: str) -> None:
    assert not imported(name) & {"time", "random", "secrets"}
    tree = ast.parse(MODULES[name].read_text())
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"urandom", "uuid1", "uuid4", "utcnow", "today", "monotonic", "time_ns"}
    assert "datetime.now" not in ast.unparse(tree)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"twisted_compat"}))
def test_no_other_module_uses_private_names_of_twisted(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not (defined | used) & PRIVATE_IN_TWISTED


@pytest.mark.parametrize("name", MODULES)
def test_only_http_uses_klein(name: str) -> None:
    foreign = {other.split(".")[0] for other in imported(name)}
    assert name.startswith("http.") or not foreign & {"klein", "werkzeug"}


def test_no_two_classes_have_one_name() -> None:
    defined: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(name)
    assert {name: modules for name, modules in defined.items() if len(modules) > 1} == {}


def kinds(base: type[Exception]) -> set[type[Exception]]:
    return {kind for direct in base.__subclasses__() for kind in (direct, *kinds(direct))}


def test_docstrings_are_imperatives_or_noun_phrases() -> None:
    questions = ("What", "How", "Who", "Whether", "Where", "Why", "Which")
    found = [
        f"{name}: {text.splitlines()[0]}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if (text := ast.get_docstring(node)) and text.split()[0] in questions
    ]
    assert found == []


def test_every_error_has_an_answer_or_an_exit_code() -> None:
    assert kinds(RequestRefused) | {StoreUnavailable} <= set(_ERROR_KINDS)
    assert kinds(CannotStart) == set(_STATUS)
