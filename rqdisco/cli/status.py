"""The command status, which reports whether the service responds and whether an ID is healthy."""

from __future__ import annotations

from functools import partial

from rqdisco.cli.app import DONE, FAILED, App, retry
from rqdisco.cli.claims import summarize_claim
from rqdisco.cli.diagnosis import describe_empty, may_be_granted, remarks
from rqdisco.cli.nodes import describe_health
from rqdisco.client import ClusterHealth, Document, NodeRegistration
from rqdisco.core.plurals import counted
from rqdisco.core.verdicts import NOTHING_TO_DO, UNHEALTHY, Health

_TOO_OLD = ClusterHealth(
    verdict=Health.UNKNOWN, reason="this service is too old to judge the cluster", next_step="upgrade the service"
)


async def status(app: App, discovery_id: str | None, patience: float, *, service: bool, as_json: bool) -> int:
    """Print the state of the service, of an ID, or of both; FAILED if an operator has to act.

    Retry for `patience` seconds while the service is down.
    """
    if as_json:
        return await _print_document(app, discovery_id, patience, service=service)
    if service or discovery_id is None:
        info = await retry(app, app.client.service, patience)
        ids = "" if info.ids is None else f", {counted(info.ids, 'ID')}"
        app.output.line(f"service {app.url} is up for {info.uptime:.0f} s, version {info.version}{ids}")
    if discovery_id is None:
        return DONE
    document = await retry(app, lambda: app.client.get(discovery_id), patience)
    for node in document.registrations:
        app.output.state_line(*_node_line(node))
    if document.leader is not None:
        state = "reported" if document.leader.reported else "claimed, not reported yet"
        app.output.line(f"leader {document.leader.addr} {state}, index {document.leader.index}")
    elif document.claim is not None:
        app.output.line(f"claim {summarize_claim(document.claim)}")
    app.output.lines(remarks(document))
    for warning in document.warnings:
        app.output.message(f"{discovery_id}: {warning.problem}: {warning.fix}")
    if may_be_granted(document) and (objections := await app.client.grant_objections()):
        app.output.message(f"{discovery_id}: no nodes are registered, {describe_empty(document, objections)}")
    health = document.health or _TOO_OLD
    app.output.state_line("health ", health.verdict, f": {health.reason}")
    app.output.line(f"next step: {_next_step(health, document)}")
    return FAILED if health.verdict in UNHEALTHY else DONE


async def _print_document(app: App, discovery_id: str | None, patience: float, *, service: bool) -> int:
    """As `status`, in JSON: the answers of the service, and what keeps it from granting."""
    is_about_service = service or discovery_id is None
    info = await retry(app, app.client.service, patience) if is_about_service else None
    document = None
    objections: tuple[str, ...] = ()
    if discovery_id is not None:
        document = await retry(app, partial(app.client.get, discovery_id), patience)
        objections = await app.client.grant_objections() if may_be_granted(document) else ()
    app.output.document({"service": info, "cluster": document, "objections": objections})
    health = None if document is None else document.health
    return FAILED if health is not None and health.verdict in UNHEALTHY else DONE


def _next_step(health: ClusterHealth, document: Document) -> str:
    """Return the next step of the verdict, which is about nodes, or else that for the first doubtful
    address.
    """
    if health.next_step == NOTHING_TO_DO and document.warnings:
        return document.warnings[0].fix
    return health.next_step


def _node_line(node: NodeRegistration) -> tuple[str, str]:
    """Return the line of a node, with its state apart."""
    details = [("raft", node.raft_addr), ("id", node.node_id)]
    words = ["node", node.addr, *(f"{name} {value}" for name, value in details if value is not None)]
    health = describe_health(node)
    lead = " ".join(words + ["leader"] * node.leader)
    return (lead, "") if health is None else (f"{lead} ", health)
