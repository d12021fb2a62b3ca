"""Generate the tests with real rqlited: one per binary that the variable RQLITED names and per mode
it supports.

Without the variable nothing is collected here, so that a run skips nothing. Nor is anything that
needs root, without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from rqdisco.recipes.flags import MODES, Mode
from tests.integration.conftest import Start, installed_environment, start_daemons  # noqa: F401, fixtures
from tests.real.scenes import ManyHosts, OneHost, Scene, ThreePeers
from tests.real.versions import VARIABLE, Case, Rqlited, cases, paths, version_in
from tests.support.etcd.real import ETCD, RealEtcd
from tests.support.hosts import Hosts
from tests.support.process import Environment

MODULES: dict[str, tuple[Mode, ...]] = {
    "test_clusters.py": MODES,
    "test_lost_claims.py": ("consul-kv",),
    "test_one_host.py": ("legacy",),
    "test_many_hosts.py": ("legacy",),
    "test_peers.py": ("legacy", "consul-kv"),
}
# These have two daemons in front of an etcd too.
WITH_ETCD = {"test_clusters.py"}
# These create network namespaces, as the DNS modes do in every module.
NEED_ROOT = {"test_many_hosts.py"}
HOSTS = ("service", "n1", "n2", "n3", "n4")
ROOT = os.geteuid() == 0 and shutil.which("ip") is not None


def _binary(path: str) -> Rqlited:
    output = subprocess.run([path, "-version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return Rqlited(path, version_in(output.stdout))


def _cases(module: str) -> list[Case]:
    return [] if module in NEED_ROOT and not ROOT else cases(BINARIES, MODULES[module], root=ROOT)


BINARIES = [_binary(path) for path in paths(os.environ.get(VARIABLE, ""))]
collect_ignore = [module for module in MODULES if not _cases(module)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = Path(str(metafunc.module.__file__)).name
    metafunc.parametrize("case", _cases(module), ids=str)
    backends = ["single", "etcd"] if module in WITH_ETCD and ETCD is not None else ["single"]
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", backends)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts(HOSTS) as made:
        yield made


@pytest.fixture
def etcd(backend: str, case: Case, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealEtcd | None]:
    """An etcd beside the daemons, None if there is none."""
    if backend == "single":
        yield None
        return
    run = None
    if case.mode.startswith("dns"):
        run = partial(request.getfixturevalue("hosts").command, "service")
    (tmp_path / "etcd").mkdir()
    with closing(RealEtcd(tmp_path / "etcd", run=run)) as etcd:
        yield etcd


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    case: Case,
    installed: Environment,
    start: Start,
    etcd: RealEtcd | None,
    tmp_path: Path,
) -> Iterator[Scene]:
    """A scene on the host of the test; in the DNS modes, which need a resolver of their own, on
    many hosts.
    """
    if case.mode.startswith("dns"):
        yield request.getfixturevalue("many_hosts")
        return
    yield from _played(Scene(case, OneHost(start, tmp_path, etcd), installed, tmp_path))


@pytest.fixture
def many_hosts(
    case: Case,
    hosts: Hosts,
    installed: Environment,
    start: Start,
    etcd: RealEtcd | None,
    tmp_path: Path,
) -> Iterator[Scene]:
    """A scene with a host for the daemon and one for each node."""
    yield from _played(Scene(case, ManyHosts(hosts, start, tmp_path, etcd), installed, tmp_path))


@pytest.fixture
def peers_scene(
    case: Case,
    installed: Environment,
    start: Start,
    tmp_path: Path,
) -> Iterator[Scene]:
    """A scene with three daemons, peers of each other, on the host of the test."""
    yield from _played(Scene(case, ThreePeers(start, tmp_path), installed, tmp_path))


def _played(scene: Scene) -> Iterator[Scene]:
    """Play a scene; the daemons must be well after it."""
    with scene:
        yield scene
    for daemon in scene.placement.daemons:
        assert daemon.complaints == []
        assert daemon.stderr == ""
