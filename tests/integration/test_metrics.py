"""Monitoring: the metrics of a running daemon, their documentation, the dashboard and the
alerts.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rqdisco.service.metrics import certificate_metrics
from tests.integration.test_operator_socket import ask
from tests.integration.test_systemd import needs
from tests.support.etcd.daemon import Cluster
from tests.support.etcd.wired import started
from tests.support.process import ANY_PORT, PATIENCE, DaemonProcess, Environment

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rqdisco.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "rqdisco.json"
_NAME = re.compile(r"\b(?:rqdisco|process)_[a-z_]+|\bup\b")
_PARTS = ("_bucket", "_sum", "_count")


@pytest.fixture(scope="module")
def watched(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with all features, after some requests."""
    directory = tmp_path_factory.mktemp("watched")
    keys = directory / "keys"
    keys.write_bytes(base64.b64encode(bytes(32)) + b"\n")
    keys.chmod(0o600)
    daemon = installed.start(
        *installed.twistd(
            directory / "state",
            f"--metrics-listen={ANY_PORT}",
            f"--operator-socket={directory / 'o.sock'}",
            f"--audit={directory / 'audit'}",
            "--dns=127.0.0.1:0",
            "--dns-zone=disco.test",
            "--peer=http://127.0.0.1:1",
            f"--peer-listen={ANY_PORT}",
            "--advertise=http://127.0.0.1:2",
            f"--peer-keys={keys}",
            "--probe=60",
            "--probe-allow=192.0.2.0/24",
        )
    )
    discovery_id = daemon.create_id()
    for addr in ("10.0.0.1:4001", "10.0.0.1:4001", "10.0.0.2:4001", "no address"):
        daemon.request("POST", f"/{discovery_id}", {"addr": addr})
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def page(watched: DaemonProcess) -> str:
    host, _, port = watched.wait_for("listening")["metrics"][0].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.read().decode()
    connection.close()
    return text


def families(page: str) -> dict[str, str]:
    """Return the types of all metrics on the page, by name, and of those that exist only with a
    certificate or with etcd.
    """
    found = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    others = [
        *certificate_metrics(list)(),
        *(each for source in started(Cluster()).backend.metrics for each in source()),
    ]
    return found | {f"{each.name}{'_total' * (each.type == 'counter')}": each.type for each in others}


def unknown(queries: list[str], page: str) -> set[str]:
    """Return the metrics in queries that do not exist."""
    known = families(page)
    series = {*known, "up", *(name + part for name, kind in known.items() for part in _PARTS if kind == "histogram")}
    asked = {name for query in queries for name in _NAME.findall(re.sub(r"\{[^}]*\}", "", query))}
    assert asked
    return asked - series


@pytest.mark.process
def test_every_metric_is_documented_with_its_type_and_nothing_else_is(page: str) -> None:
    rows = re.findall(r"^\| `(rqdisco_\w+)`[^|]*\| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    ours = {name: kind for name, kind in families(page).items() if name.startswith("rqdisco_")}
    assert dict(rows) == ours
    assert len(rows) == len(ours)


@pytest.mark.process
def test_process_metrics_are_there_too(page: str) -> None:
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= set(families(page))


@pytest.mark.process
def test_the_metrics_page_counts_what_happened(page: str) -> None:
    for line in (
        'rqdisco_grants_total{kind="granted"} 1.0',
        'rqdisco_grants_total{kind="again"} 1.0',
        'rqdisco_changes_total{change="registration",outcome="listed"} 1.0',
        'rqdisco_refusals_total{api="discovery",reason="invalid_value"} 1.0',
        'rqdisco_requests_total{api="discovery",method="POST",route="/ID",status="400"} 1.0',
        "rqdisco_ids 1.0",
        "rqdisco_nodes 2.0",
        "rqdisco_peers_never_met 1.0",
    ):
        assert (
            line in page.splitlines()
            or line.replace('method="POST",route="/ID"', 'route="/ID",method="POST"') in page.splitlines()
        ), line
    assert re.search(r"^rqdisco_journal_sync_duration_seconds_count [1-9]", page, re.MULTILINE)


@pytest.mark.process
@needs("promtool")
def test_promtool_has_no_complaint_about_the_names(page: str) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.process
def test_the_operator_has_the_metrics_page_and_the_public_has_not(watched: DaemonProcess) -> None:
    path = watched.wait_for("listening")["operator"][0].removeprefix("unix:")
    assert b"\nrqdisco_ids 1.0\n" in ask(Path(path), "GET /metrics")
    assert watched.request("GET", "/metrics").status == 404


@pytest.mark.process
def test_every_panel_of_the_dashboard_uses_existing_metrics(page: str) -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    queries += [variable["definition"] for variable in board["templating"]["list"] if "definition" in variable]
    assert unknown(queries, page) == set()
    positions = [tuple(panel["gridPos"][name] for name in "xy") for panel in board["panels"]]
    assert len(set(positions)) == len(positions), "no panel lies on another"


@pytest.mark.process
def test_every_alert_uses_existing_metrics(page: str) -> None:
    queries = re.findall(r"^ *expr: (.+)$", RULES.read_text(), re.MULTILINE)
    assert unknown(queries, page) == set()


@needs("promtool")
def test_every_alert_is_quiet_when_all_is_well_and_fires_when_it_is_not() -> None:
    for command in (["check", "rules", RULES.name], ["test", "rules", "rqdisco.test.yml"]):
        checked = subprocess.run(
            ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
    alerts = re.findall(r"^ *- alert: (\w+)$", RULES.read_text(), re.MULTILINE)
    attempted = re.findall(r"^ *alertname: (\w+)$", (RULES.parent / "rqdisco.test.yml").read_text(), re.MULTILINE)
    assert sorted(alerts) == sorted(attempted)
