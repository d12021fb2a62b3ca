"""The Helm chart, and the manifests in deploy/kubernetes that are made from it.

Where helm is installed, on the PATH or named by the variable HELM, the chart is rendered and must
give those manifests. Everything else is checked without helm.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator

from rqdisco import __version__
from rqdisco.http.routes import ENDPOINTS
from rqdisco.recipes.flags import FlagsRequest, make_flags
from rqdisco.service.options import DaemonOptions

ROOT = Path(__file__).parents[2]
HELM_DIRECTORY = ROOT / "deploy" / "helm"
CHART = HELM_DIRECTORY / "rqdisco"
MANIFESTS = ROOT / "deploy" / "kubernetes"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
HELM = shutil.which(os.environ.get("HELM", "helm"))
# The name of the manifest and the values of the chart for each mode.
MODES = {"single": ("rqdisco", None), "peers": ("rqdisco-peers", "peers.yaml"), "etcd": ("rqdisco-etcd", "etcd.yaml")}
# The oldest release that the chart names and the newest that the schemas know.
RELEASES = ("1.25", kubernetes_validate.latest_version())
UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

Object = dict[str, Any]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


def objects(mode: str) -> list[Object]:
    """Return the objects of a committed manifest."""
    return list(yaml.safe_load_all((MANIFESTS / f"{MODES[mode][0]}.yaml").read_text()))


def of_kind(mode: str, *kinds: str) -> Object:
    """Return the only object of one of these kinds."""
    (found,) = (each for each in objects(mode) if each["kind"] in kinds)
    return found


def pod(mode: str) -> Object:
    spec: Object = of_kind(mode, "StatefulSet", "Deployment")["spec"]["template"]["spec"]
    return spec


def container(mode: str) -> Object:
    (only,) = pod(mode)["containers"]
    found: Object = only
    return found


def values_of(mode: str) -> Object:
    extra = MODES[mode][1]
    own = {} if extra is None else yaml.safe_load((HELM_DIRECTORY / extra).read_text())
    return {**VALUES, **{key: {**VALUES[key], **each} if isinstance(each, dict) else each for key, each in own.items()}}


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_accepts_every_object(mode: str, release: str) -> None:
    for each in objects(mode):
        kubernetes_validate.validate(each, release, strict=True)


def test_a_typing_error_in_an_object_would_be_found() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": [4000]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, RELEASES[-1], strict=True)


def test_the_manifests_run_the_version_and_the_image_of_the_chart(mode: str) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (__version__, __version__)
    assert container(mode)["image"] == f"{VALUES['image']['repository']}:{__version__}"
    for each in objects(mode):
        assert each["metadata"]["labels"]["app.kubernetes.io/version"] == __version__


def test_services_lead_to_the_ports_of_the_pods(mode: str) -> None:
    names = {each["name"]: each["containerPort"] for each in container(mode)["ports"]}
    values = values_of(mode)
    expected = {"http": 4000, "metrics": values["metrics"]["port"]} | ({"peers": 4005} if mode == "peers" else {})
    assert names == expected
    services = {each["metadata"]["name"]: each for each in objects(mode) if each["kind"] == "Service"}
    (port,) = services["rqdisco"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (values["service"]["port"], "http")
    labels = of_kind(mode, "StatefulSet", "Deployment")["spec"]["template"]["metadata"]["labels"]
    for service in services.values():
        assert service["spec"]["selector"].items() <= labels.items()
        assert {each.get("targetPort", each["port"]) for each in service["spec"]["ports"]} <= {*names, *names.values()}


def test_probes_ask_the_daemons_own_health_checks(mode: str) -> None:
    probes = {name: container(mode)[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: each["path"] for name, each in probes.items()} == {
        "startup": "/healthz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {each["path"] for each in probes.values()} <= {endpoint.path for endpoint in ENDPOINTS}
    assert {each["port"] for each in probes.values()} == {"http"}


def test_pods_run_without_rights_on_a_file_system_that_they_cannot_write(mode: str) -> None:
    assert container(mode)["securityContext"] == UNPRIVILEGED
    context = pod(mode)["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, 10001, 10001)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(mode)["automountServiceAccountToken"] is False
    assert [each["mountPath"] for each in container(mode)["volumeMounts"] if not each.get("readOnly")] == [
        "/var/lib/rqdisco"
    ]


def test_the_daemon_accepts_the_settings_of_the_pods(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RQDISCO_DATA_DIR", "/var/lib/rqdisco")
    for each in container(mode)["env"]:
        value = each.get("value", "rqdisco-0")
        monkeypatch.setenv(each["name"], value.replace("$(RQDISCO_NAME)", "rqdisco-0"))
    options = DaemonOptions()
    options.parseOptions([])
    config = options.config
    assert (config.peers is not None, config.etcd is not None) == (mode == "peers", mode == "etcd")
    if config.peers is not None:
        assert config.peers.advertise == config.peers.seeds[0]
        assert len(config.peers.seeds) == values_of(mode)["replicas"]


def test_only_clients_prometheus_and_peers_may_connect_each_to_a_port_of_its_own(mode: str) -> None:
    policy = of_kind(mode, "NetworkPolicy")["spec"]
    ports = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert policy["policyTypes"] == ["Ingress"]
    assert set(ports) == {each["name"] for each in container(mode)["ports"]}
    assert ports["http"] == VALUES["networkPolicy"]["clients"]
    assert ports["metrics"] == VALUES["networkPolicy"]["prometheus"]
    if mode == "peers":
        assert ports["peers"] == [{"podSelector": {"matchLabels": policy["podSelector"]["matchLabels"]}}]


def test_the_nodes_of_the_example_are_clients() -> None:
    nodes = list(yaml.safe_load_all((MANIFESTS / "rqlite.yaml").read_text()))
    (labels,) = (each["spec"]["template"]["metadata"]["labels"] for each in nodes if each["kind"] == "StatefulSet")
    selectors = [each["podSelector"]["matchLabels"] for each in VALUES["networkPolicy"]["clients"]]
    assert any(each.items() <= labels.items() for each in selectors)


def test_rqlites_own_chart_gets_the_flags_that_the_command_prints_and_no_bootstrap_by_dns() -> None:
    arguments = yaml.safe_load((HELM_DIRECTORY / "rqlite.yaml").read_text())["extraArgs"]
    request = FlagsRequest(discovery_id="orders", version="10", mode="consul-kv", url="http://rqdisco:4000")
    assert arguments == ["-fk=true", *make_flags(request).arguments, "-bootstrap-expect=0"]


def test_a_single_daemon_never_has_a_second_one() -> None:
    assert of_kind("single", "StatefulSet")["spec"]["replicas"] == 1
    assert "PodDisruptionBudget" not in {each["kind"] for each in objects("single")}


@pytest.mark.parametrize("mode", ["peers", "etcd"])
def test_of_several_daemons_one_at_a_time_is_evicted_or_upgraded(mode: str) -> None:
    assert of_kind(mode, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spec = of_kind(mode, "StatefulSet", "Deployment")["spec"]
    assert spec["replicas"] == values_of(mode)["replicas"]
    if mode == "peers":
        assert spec["minReadySeconds"] == 15
    else:
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_values_fit_their_schema(mode: str) -> None:
    Draft7Validator(SCHEMA).validate(values_of(mode))


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("mode", "two"),
        ("mode", "etcd"),
        ("replicas", 0),
        ("replica", 3),
        ("service", {"port": 70000}),
        ("env", {"RQDISCO_STRICT_ADDRESSES": True}),
        ("env", {"STRICT": "yes"}),
        ("persistence", {"size": "much"}),
    ],
)
def test_values_that_make_no_sense_are_refused(section: str, value: object) -> None:
    assert not Draft7Validator(SCHEMA).is_valid({**VALUES, section: value})


@pytest.mark.parametrize("mode", [*MODES] if HELM else ["without helm"])
def test_the_manifests_are_what_helm_makes_of_the_chart(mode: str, tmp_path: Path) -> None:
    if HELM is None:
        starts = {(MANIFESTS / f"{name}.yaml").read_text().partition("\n")[0] for name, _ in MODES.values()}
        assert starts == {"# Made by deploy/helm/render from the chart in deploy/helm/rqdisco: change that one."}
        return
    script = [str(HELM_DIRECTORY / "render"), str(tmp_path)]
    subprocess.run(script, check=True, env={**os.environ, "HELM": HELM}, timeout=60)
    name = f"{MODES[mode][0]}.yaml"
    assert (tmp_path / name).read_text() == (MANIFESTS / name).read_text()


def used_values() -> set[str]:
    """Return the paths of all values that the templates use."""
    texts = [path.read_text() for path in (CHART / "templates").iterdir()]
    return {path for text in texts for path in re.findall(r"\.Values\.([\w.]+)", text)}


def test_the_templates_use_each_value_that_there_is_and_no_other() -> None:
    def paths(values: Object, before: str = "") -> Iterator[str]:
        for name, value in values.items():
            yield f"{before}{name}"
            if isinstance(value, dict):
                yield from paths(value, f"{before}{name}.")

    known = set(paths(VALUES))
    assert used_values() <= known
    prefixes = {path.rpartition(".")[0] for path in known}
    unused = {
        path
        for path in known - prefixes
        if not any(path == used or path.startswith(f"{used}.") for used in used_values())
    }
    assert unused == set()


@pytest.mark.parametrize("mode", [*MODES] if HELM else ["without helm"])
def test_kubernetes_accepts_the_chart_with_every_option(mode: str) -> None:
    if HELM is None:
        # Its templates are then checked by their names of values alone, above.
        assert used_values()
        return
    options = (
        "access.tokensSecret=tokens",
        "metrics.serviceMonitor.enabled=true",
        "persistence.storageClass=fast",
        "priorityClassName=high",
        "imagePullSecrets[0].name=pull",
        "nodeSelector.disk=ssd",
        "tolerations[0].operator=Exists",
        "podAnnotations.a=b",
        "env.RQDISCO_STRICT_ADDRESSES=yes",
        "etcd.endpoints[0]=http://etcd:2379",
    )
    command = [HELM, "template", "other", str(CHART), "--kube-version=1.30.0", f"--set=mode={mode}"]
    command += [f"--set={option}" for option in options]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    found = list(yaml.safe_load_all(result.stdout))
    monitors = [each for each in found if each["kind"] == "ServiceMonitor"]
    assert [each["spec"]["endpoints"][0]["port"] for each in monitors] == ["metrics"]
    for each in found:
        if each not in monitors:
            kubernetes_validate.validate(each, RELEASES[-1], strict=True)
    assert {each["metadata"]["name"].partition("-rqdisco")[0] for each in found} == {"other"}
