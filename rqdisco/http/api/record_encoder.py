"""Records as JSON, with what this daemon knows of their nodes beside the directory."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from rqdisco.core.directory import Directory
from rqdisco.core.leaders import Leaders
from rqdisco.core.verdicts import Verdict
from rqdisco.core.views import View
from rqdisco.http.requests.documents import encode_assessment, encode_full_document, encode_watched, not_seen
from rqdisco.probes.node_health import NodeHealth, down_last
from rqdisco.telemetry.answer_history import AnswerHistory

# Of the IDs that are looked up again and again.
_MOST_ASSESSMENTS = 4096


class RecordEncoder:
    """Encodes records for `GET /ID` and for event streams.

    `history` provides when each address was first answered, `node_health` the results of probes,
    `two_leaders` the two leaders of an ID that both report themselves, and `judge` the verdict.
    """

    def __init__(
        self,
        directory: Directory,
        history: AnswerHistory,
        node_health: NodeHealth | None,
        two_leaders: Callable[[str], Leaders | None],
        judge: Callable[[View], Verdict],
    ) -> None:
        self._directory = directory
        self._history = history
        self._node_health = node_health
        self._probed = not_seen if node_health is None else node_health.status
        self._two_leaders = two_leaders
        self._judge = judge
        self._assessments: dict[tuple[str, int, bool], bytes] = {}

    def full(self, record: View) -> bytes:
        """Encode the answer to `GET /ID`: nodes that are down come last, for joiners try one after
        the other.
        """
        nodes = down_last(record.nodes, self._node_health)
        is_owned, two_leaders = self._directory.has_owner(record), self._two_leaders(record.id)
        return encode_full_document(
            record if nodes is record.nodes else replace(record, nodes=nodes),
            self._assessment(record, is_owned, two_leaders),
            orphaned=not is_owned,
            seen=self._probed,
            two_leaders=two_leaders,
        )

    def _assessment(self, record: View, is_owned: bool, two_leaders: Leaders | None) -> bytes:
        """Encode the verdict and the warnings. Without probes and leaders they change only with the
        record and its owner.
        """
        has_leader = record.leader is not None or record.claimed or two_leaders is not None
        if has_leader or record.unconfirmed or self._node_health is not None:
            return encode_assessment(record, self._judge(record))
        key = record.id, record.version, is_owned
        assessment = self._assessments.get(key)
        if assessment is None:
            if len(self._assessments) >= _MOST_ASSESSMENTS:
                self._assessments.clear()
            self._assessments[key] = assessment = encode_assessment(record, self._judge(record))
        return assessment

    def watched(self, record: View) -> bytes:
        """Encode the data of an event."""
        return encode_watched(
            record,
            self._judge(record),
            orphaned=not self._directory.has_owner(record),
            heard=self._history.first(record.id, [node.addr for node in record.nodes]),
            seen=self._probed,
            two_leaders=self._two_leaders(record.id),
        )
