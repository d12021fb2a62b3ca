"""The command status, which reports whether the service responds and whether an ID is healthy."""

from __future__ import annotations

from rqdisco.cli.app import DONE, FAILED, App, retry
from rqdisco.cli.claims import summarize_claim
from rqdisco.cli.diagnosis import diagnose, may_be_granted
from rqdisco.cli.nodes import describe_health
from rqdisco.client import NodeRegistration
from rqdisco.core.plurals import counted


async def status(app: App, discovery_id: str | None, patience: float, *, service: bool) -> int:
    """Print the state of the service, of an ID, or of both; FAILED if the ID is unhealthy.

    Retry for `patience` seconds while the service is down.
    """
    if service or discovery_id is None:
        info = await retry(app, app.client.service, patience)
        ids = "" if info.ids is None else f", {counted(info.ids, 'ID')}"
        app.output.line(f"service {app.url} is up for {info.uptime:.0f} s, version {info.version}{ids}")
    if discovery_id is None:
        return DONE
    document = await retry(app, lambda: app.client.get(discovery_id), patience)
    app.output.lines([_node_line(node) for node in document.registrations])
    if document.leader is not None:
        state = "reported" if document.leader.reported else "claimed, not reported yet"
        app.output.line(f"leader {document.leader.addr} {state}, index {document.leader.index}")
    elif document.claim is not None:
        app.output.line(f"claim {summarize_claim(document.claim)}")
    objections = await app.client.grant_objections() if may_be_granted(document) else ()
    findings = diagnose(document, app.wall(), objections)
    app.output.lines([finding.text for finding in findings if not finding.is_problem])
    problems = [finding.text for finding in findings if finding.is_problem]
    for problem in problems:
        app.output.message(f"{discovery_id}: {problem}")
    app.output.line("unhealthy" if problems else "healthy")
    return FAILED if problems else DONE


def _node_line(node: NodeRegistration) -> str:
    details = [("raft", node.raft_addr), ("id", node.node_id)]
    words = ["node", node.addr, *(f"{name} {value}" for name, value in details if value is not None)]
    health = describe_health(node)
    return " ".join(words + ["leader"] * node.leader + ([] if health is None else [health]))
