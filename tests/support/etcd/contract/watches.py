"""The contract of etcd: watches, also from earlier revisions and of compacted ones."""

from __future__ import annotations

from contextlib import closing

from tests.support.etcd.contract.member import OneMember
from tests.support.etcd.documents import COMPACTED, FUTURE, create, delete, put, range_, txn
from tests.support.etcd.encoding import b64
from tests.support.etcd.subjects import Subject


class WatchContract(OneMember):
    """Tests of watches."""

    def test_one_body_opens_several_watches_and_each_change_is_a_line(self, etcd: Subject, at: str, now: int) -> None:
        creates = [create(at + "a"), create(at + "b"), create(at + "b", watch_id="7")]
        with closing(etcd.watch(creates)) as watching:
            opened = [watching.next()["result"] for _ in creates]
            assert [(each.get("watch_id"), each["created"]) for each in opened] == [
                (None, True),
                ("1", True),
                ("7", True),
            ]
            etcd.post("/v3/kv/txn", txn(success=[put(at + "b"), put(at + "none")]))
            lines = [watching.next()["result"] for _ in range(2)]
            assert {line["watch_id"] for line in lines} == {"1", "7"}
            for line in lines:
                assert line["header"]["revision"] == str(now + 1)
                (event,) = line["events"]
                assert event.keys() == {"kv"}
                assert event["kv"]["mod_revision"] == str(now + 1)
            etcd.post("/v3/kv/deleterange", {"key": b64(at + "a")})  # it is not there
            etcd.post("/v3/kv/put", {"key": b64(at + "a")})
            etcd.post("/v3/kv/deleterange", {"key": b64(at + "a")})
            assert "watch_id" not in watching.next()["result"]
            assert watching.next()["result"]["events"] == [
                {"type": "DELETE", "kv": {"key": b64(at + "a"), "mod_revision": str(now + 3)}}
            ]

    def test_a_watch_from_an_earlier_revision_starts_with_all_changes_since(
        self, etcd: Subject, at: str, now: int
    ) -> None:
        etcd.post("/v3/kv/put", {"key": b64(at)})
        etcd.post("/v3/kv/txn", txn(success=[put(at + "b"), delete(at)]))
        with closing(etcd.watch([create(at, range_end=b64(at + "z"), start_revision=str(now + 1))])) as watching:
            watching.next()
            line = watching.next()["result"]
            assert [each["kv"]["mod_revision"] for each in line["events"]] == [str(now + 1), *[str(now + 2)] * 2]
            assert line["header"]["revision"] == str(now + 2)
            etcd.post("/v3/kv/put", {"key": b64(at)})
            assert len(watching.next()["result"]["events"]) == 1

    def test_a_watch_of_the_future_waits_for_it(self, etcd: Subject, at: str, now: int) -> None:
        with closing(etcd.watch([create(at, start_revision=str(now + 2))])) as watching:
            watching.next()
            for value in "12":
                etcd.post("/v3/kv/put", {"key": b64(at), "value": b64(value)})
            (event,) = watching.next()["result"]["events"]
            assert event["kv"]["value"] == b64("2")

    def test_a_watch_that_cannot_be_is_refused_and_others_of_its_stream_go_on(self, etcd: Subject, at: str) -> None:
        with closing(etcd.watch([create(at, range_end=b64(at)), create(at)])) as watching:
            line = watching.next()["result"]
            assert {**line, "header": 0} == {
                "header": 0,
                "watch_id": "-1",
                "created": True,
                "canceled": True,
                "cancel_reason": "mvcc: watcher range is empty",
            }
            assert watching.next()["result"]["created"] is True
            etcd.post("/v3/kv/put", {"key": b64(at)})
            assert "events" in watching.next()["result"]

    def test_a_body_that_is_no_json_opens_no_stream(self, etcd: Subject) -> None:
        with closing(etcd.watch([b"garbage"])) as watching:
            assert watching.next()["code"] == 2

    def test_what_was_compacted_is_neither_read_nor_watched(self, etcd: Subject, at: str, now: int) -> None:
        for value in "123":
            etcd.post("/v3/kv/put", {"key": b64(at), "value": b64(value)})
        assert etcd.post("/v3/kv/compaction", {"revision": str(now + 2)}).status == 200
        assert etcd.post("/v3/kv/compaction", {"revision": str(now + 2)}) == COMPACTED
        assert etcd.post("/v3/kv/compaction", {"revision": str(now + 9)}) == FUTURE
        for requested in (now + 2, now + 3):
            assert etcd.post("/v3/kv/range", {"key": b64(at), "revision": str(requested)}).status == 200
        assert etcd.post("/v3/kv/range", {"key": b64(at), "revision": str(now + 1)}) == COMPACTED
        assert etcd.post("/v3/kv/txn", txn(success=[put(at), range_(at, revision=str(now + 1))])) == COMPACTED
        creates = [create(at, start_revision=str(now + 1)), create(at)]
        with closing(etcd.watch(creates)) as watching:
            assert [watching.next()["result"]["created"] for _ in creates] == [True] * 2
            line = watching.next()["result"]
            assert "revision" not in line["header"]
            assert {**line, "header": 0} == {"header": 0, "canceled": True, "compact_revision": str(now + 2)}
            etcd.post("/v3/kv/put", {"key": b64(at)})
            assert watching.next()["result"]["watch_id"] == "1"
