"""Complete commands that start a node of rqlite, around the flags of `recipes`. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from rqdisco.recipes.flags import Flags, FlagsRequest, make_flags
from rqdisco.recipes.parsing import Unsupported
from rqdisco.recipes.quoting import quote_flags

Platform = Literal["shell", "systemd", "docker", "compose", "k8s"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)
# The parts that the user replaces: the address of a node, a token, a release of rqlite.
PLACEHOLDER = re.compile(r"(NODE[0-9]+_IP|\bTOKEN\b|RQLITE_VERSION)")
_HTTP_PORT, _RAFT_PORT = 4001, 4002
_CONTAINER_DATA = "/rqlite/file/data"


class _Names(msgspec.Struct, frozen=True):
    """The flags of one generation of rqlited for the addresses of a node; `node_id` is None before
    nodes had IDs. `image` is its image at Docker Hub.
    """

    http: str
    http_adv: str
    raft: str
    raft_adv: str
    node_id: str | None
    image: str


_NEW = _Names("-http-addr", "-http-adv-addr", "-raft-addr", "-raft-adv-addr", "-node-id", "rqlite/rqlite")
_LEGACY = _Names("-http-addr", "-http-adv-addr", "-raft-addr", "-raft-adv-addr", None, "rqlite/rqlite:RQLITE_VERSION")
_OLDEST = _Names("-http", "-httpadv", "-raft", "-raftadv", None, "rqlite/rqlite:RQLITE_VERSION")


class NodeCommand(msgspec.Struct, frozen=True):
    """A command that starts a node, or the content of `file` that does once `next_command` was run.
    Both are empty for a command.
    """

    text: str
    file: str = ""
    next_command: str = ""


def make_command(request: FlagsRequest, platform: Platform, number: int) -> NodeCommand:
    """Return the command that starts node `number` of a cluster; in Kubernetes one manifest starts
    all of them. Raises Unsupported.
    """
    flags = make_flags(request)
    names = _names(request)
    registers = request.mode.startswith("dns")
    if platform == "k8s":
        if registers:
            raise Unsupported(
                "in Kubernetes use consul-kv, or the DNS modes with the headless Service of the pods, without rqdisco"
            )
        return _kubernetes(flags, names)
    if platform == "compose" and registers:
        raise Unsupported("a container does not register itself for the DNS modes: use consul-kv")
    host = f"NODE{number}_IP"
    own = _addresses(names, host, number)
    register = _registration(request, host, number) if registers else ()
    if platform == "shell":
        return _shell(own, flags, register)
    if platform == "systemd":
        return _systemd(own, flags, register)
    if platform == "docker":
        return _docker(own, flags, names, register)
    return _compose(own, flags, names)


def _names(request: FlagsRequest) -> _Names:
    if request.mode != "legacy":
        return _NEW
    return _OLDEST if request.version.lstrip("v").startswith("3") else _LEGACY


def _addresses(names: _Names, host: str, number: int) -> tuple[tuple[str, ...], ...]:
    """Return the flags that say who the node is, as lines."""
    where = (f"{names.http}={host}:{_HTTP_PORT}", f"{names.raft}={host}:{_RAFT_PORT}")
    return (where,) if names.node_id is None else ((f"{names.node_id}=node{number}",), where)


def _registration(request: FlagsRequest, host: str, number: int) -> tuple[str, ...]:
    by_raft = ("--raft-addr", f"{host}:{_RAFT_PORT}", "--node-id", f"node{number}")
    return (
        *("rqdisco", "--url", request.url, "register", request.discovery_id, f"{host}:{_HTTP_PORT}"),
        *by_raft,
        *("--wait", "120"),
    )


def _lines(own: Sequence[Sequence[str]], flags: Flags) -> list[Sequence[str]]:
    """Group the flags into lines: those of a node by their purpose, long ones alone."""
    lines, short = list(own), list[str]()
    for each in flags.arguments:
        if len(each) > 40:
            lines += [short] if short else []
            lines.append([each])
            short = []
        else:
            short.append(each)
    return [*lines, short] if short else lines


def _continued(lines: Sequence[str]) -> str:
    return " \\\n    ".join(lines)


def _shell(own: Sequence[Sequence[str]], flags: Flags, register: Sequence[str]) -> NodeCommand:
    words = [quote_flags("shell", line) for line in _lines(own, flags)]
    command = _continued([f"rqlited {words[0]}", *words[1:], "rqlite-data"])
    first = f"{quote_flags('shell', register)} &&\n" if register else ""
    return NodeCommand(first + command)


def _systemd(own: Sequence[Sequence[str]], flags: Flags, register: Sequence[str]) -> NodeCommand:
    words = [quote_flags("systemd", line) for line in _lines(own, flags)]
    command = _continued([f"ExecStart=/usr/bin/rqlited {words[0]}", *words[1:], "/var/lib/rqlite/data"])
    before = [f"ExecStartPre=/usr/bin/env {quote_flags('systemd', register)}"] if register else []
    text = "\n".join(
        [
            *("[Unit]", "Description=rqlite", "Wants=network-online.target", "After=network-online.target", ""),
            *("[Service]", *before, command),
            *("DynamicUser=yes", "StateDirectory=rqlite", "Restart=on-failure", "RestartSec=5"),
            *(["TimeoutStartSec=180"] if before else []),
            *("", "[Install]", "WantedBy=multi-user.target"),
        ]
    )
    return NodeCommand(text, "/etc/systemd/system/rqlited.service", "sudo systemctl enable --now rqlited")


def _docker(own: Sequence[Sequence[str]], flags: Flags, names: _Names, register: Sequence[str]) -> NodeCommand:
    words = [quote_flags("shell", line) for line in _lines(own, flags)]
    command = _continued(
        [
            "docker run --detach --name rqlite --restart unless-stopped",
            "--network host --volume rqlite:/rqlite/file",
            f"--entrypoint rqlited {names.image}",
            *words,
            _CONTAINER_DATA,
        ]
    )
    first = f"{quote_flags('shell', register)} &&\n" if register else ""
    return NodeCommand(first + command)


def _compose(own: Sequence[Sequence[str]], flags: Flags, names: _Names) -> NodeCommand:
    arguments = [each for line in own for each in line]
    member = quote_flags("compose", (*arguments, *flags.arguments, _CONTAINER_DATA))
    text = "\n".join(
        [
            *("services:", "  rqlite:", f"    image: {names.image}", "    restart: unless-stopped"),
            *("    network_mode: host", "    entrypoint: rqlited", _indented(member, 4)),
            *("    volumes:", "      - rqlite:/rqlite/file", "volumes:", "  rqlite:"),
        ]
    )
    return NodeCommand(text, "compose.yaml", "docker compose up --detach")


def _kubernetes(flags: Flags, names: _Names) -> NodeCommand:
    """Return a Service and a StatefulSet: each pod is a node, by the name that it keeps."""
    # Kubernetes replaces $(POD) by the variable.
    pod = "$(POD).rqlite"
    own = [
        *([] if names.node_id is None else [f"{names.node_id}=$(POD)"]),
        *(f"{names.http}=0.0.0.0:{_HTTP_PORT}", f"{names.http_adv}={pod}:{_HTTP_PORT}"),
        *(f"{names.raft}=0.0.0.0:{_RAFT_PORT}", f"{names.raft_adv}={pod}:{_RAFT_PORT}"),
    ]
    arguments = "\n".join(
        [
            "args:",
            *(f"  - {json.dumps(each)}" for each in own),
            *quote_flags("k8s", flags.arguments).splitlines()[1:],
            f'  - "{_CONTAINER_DATA}"',
        ]
    )
    return NodeCommand(
        _MANIFEST.format(image=names.image, arguments=_indented(arguments, 10)),
        "rqlite.yaml",
        "kubectl apply -f rqlite.yaml",
    )


def _indented(text: str, columns: int) -> str:
    return "\n".join(" " * columns + line for line in text.splitlines())


# A pod gets a name before it is ready: it becomes ready by joining.
_MANIFEST = """\
apiVersion: v1
kind: Service
metadata:
  name: rqlite
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{app: rqlite}}
  ports: [{{name: http, port: 4001}}, {{name: raft, port: 4002}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: rqlite
spec:
  replicas: 3
  serviceName: rqlite
  podManagementPolicy: Parallel
  selector:
    matchLabels: {{app: rqlite}}
  template:
    metadata:
      labels: {{app: rqlite}}
    spec:
      containers:
        - name: rqlite
          image: {image}
          command: ["rqlited"]
          env: [{{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
{arguments}
          volumeMounts: [{{name: data, mountPath: /rqlite/file}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec:
        accessModes: [ReadWriteOnce]
        resources: {{requests: {{storage: 1Gi}}}}"""
