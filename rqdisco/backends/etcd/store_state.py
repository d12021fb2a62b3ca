"""The content of `v1/meta` as this daemon knows it, which decides if anything may be changed or
granted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from rqdisco.backends.etcd.client import EtcdClient
from rqdisco.backends.etcd.failures import EtcdFailure, unavailable
from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.backends.etcd.messages import Compare, KeyValue, Range, RangeResponse, Txn, prefix_end, put_op, range_op
from rqdisco.backends.etcd.meta import FORMAT, Meta, decode_meta, encode_meta
from rqdisco.backends.etcd.revisions import RevisionGuard
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import AlreadyFrozen, EtcdUnavailable, Frozen, Undecided, UnknownFormat
from rqdisco.core.ids import RandomBytes

WENT_BACK = (
    "etcd seems to be restored from a backup, so nothing is granted until an operator has run `rqdisco etcd restored`"
    " and restarted this daemon"
)
_NOT_READ = "etcd has not answered since this daemon started"


class StoreState:
    """The newest `v1/meta` that was read, and the check of revisions.

    Every transaction compares the revision of that key, so one that was decided on an older state
    changes nothing. `write_objection` returns the error of all writes while etcd has an alarm: it
    does not refuse those in nested transactions (etcd 3.4 etcdserver/apply.go, applierV3Capped).
    """

    def __init__(
        self,
        keys: EtcdKeys,
        guard: RevisionGuard,
        client: EtcdClient,
        write_objection: Callable[[], EtcdUnavailable | None],
    ) -> None:
        self._keys = keys
        self._where = keys.meta.decode()
        self._client = client
        self._guard = guard
        self._write_objection = write_objection
        self._meta: Meta | None = None
        self._revision = 0

    @property
    def meta(self) -> Meta:
        """The state of the store. Raises Undecided before it was read."""
        if self._meta is None:
            raise Undecided(_NOT_READ)
        return self._meta

    @property
    def is_known(self) -> bool:
        """Report whether the state was read."""
        return self._meta is not None

    @property
    def frozen(self) -> str | None:
        """The reason why nothing may be changed, None if changes are allowed."""
        return None if self._meta is None else self._meta.frozen or None

    @property
    def grant_objection(self) -> str | None:
        """The reason why nothing may be granted because of E8, None if grants are allowed."""
        return self._guard.went_back

    def compare(self) -> Compare:
        """Return the comparison that every transaction needs. Raises Undecided."""
        if self._meta is None:
            raise Undecided(_NOT_READ)
        return Compare(key=self._keys.meta, mod_revision=self._revision)

    def check_changes(self, during: str | None = None) -> None:
        """Raise Frozen where nothing may be changed. An import `during` a freeze may only then
        change something; otherwise it raises Undecided. Raises StoreUnavailable.
        """
        frozen = self.meta.frozen or None
        if (objection := self._write_objection()) is not None:
            raise objection
        if frozen == during:
            return
        if frozen is not None:
            raise Frozen(frozen)
        raise Undecided("the store in etcd is not frozen for the import")

    def check_grants(self) -> None:
        """Raise Undecided where nothing may be granted."""
        self.check_changes()
        if self._guard.went_back is not None:
            raise Undecided(f"{self._guard.went_back}: {WENT_BACK}")

    def is_elsewhere(self, read: RangeResponse) -> bool:
        """Report whether a read of `v1/meta` shows another store than this one."""
        try:
            other = decode_meta(read.kvs[0].value, self._where).store_id if read.kvs else None
        except (Malformed, UnknownFormat):
            # Changes are refused for that reason, once it is read as the state.
            return False
        return read.header.cluster_id != self._guard.seen.cluster_id or other != self.meta.store_id

    def learn(self, found: KeyValue | None) -> None:
        """Take the state from what was read. Raises Undecided if it is not one that this release
        can use.
        """
        if found is None:
            self._guard.notice("the key v1/meta is gone from etcd")
            raise Undecided("the key v1/meta is gone from etcd")
        if found.mod_revision <= self._revision and not self._is_from_a_backup(found):
            # Answers to requests that overlap come in any order.
            return
        try:
            meta = decode_meta(found.value, self._where)
        except (Malformed, UnknownFormat) as error:
            raise Undecided(str(error)) from None
        if self._meta is not None and meta.store_id != self._meta.store_id:
            self._guard.notice(f"the store in etcd is another one ({meta.store_id}, before {self._meta.store_id})")
        elif self._meta is not None and meta.epoch < self._meta.epoch:
            self._guard.notice(f"the epoch of the store in etcd went back from {self._meta.epoch} to {meta.epoch}")
        self._meta, self._revision = meta, found.mod_revision

    def _is_from_a_backup(self, found: KeyValue) -> bool:
        return self._guard.went_back is not None and found.mod_revision != self._revision

    async def open(self, random: RandomBytes, verify: Callable[[], Awaitable[None]] | None = None) -> None:
        """Read the state, and create it in an empty store. Nothing is decided before `verify`
        returns.

        Raises EtcdFailure; Malformed, UnknownFormat for a state that this release cannot use.
        """
        while True:
            response = await self._client.range(Range(key=self._keys.meta))
            if response.kvs:
                found = response.kvs[0]
                # Raises what is wrong with it.
                decode_meta(found.value, self._where)
                if verify is not None:
                    await verify()
                self.learn(found)
                return
            await self._create(random)

    async def _create(self, random: RandomBytes) -> None:
        ids = Range(key=self._keys.ids, range_end=prefix_end(self._keys.ids), limit=1, keys_only=True)
        if (await self._client.range(ids)).kvs:
            raise Malformed(f"{self._keys.base.decode()} holds IDs, but no key v1/meta: it was restored in part")
        meta = Meta(format=FORMAT, store_id=random(8).hex(), epoch=1)
        await self._client.txn(Txn(
            compare=(Compare(key=self._keys.meta, mod_revision=0),),
            success=(put_op(self._keys.meta, encode_meta(meta)),),
        ))  # fmt: skip

    async def freeze(self, reason: str) -> None:
        """Allow no changes by any daemon. Raises AlreadyFrozen for another reason,
        StoreUnavailable.
        """
        await self._change(lambda meta: _frozen(meta, reason))

    async def thaw(self) -> None:
        """Allow changes again. Raises StoreUnavailable."""
        await self._change(lambda meta: replace(meta, frozen=""))

    async def raise_epoch(self, least: int) -> int:
        """Begin a new epoch, numbered `least` or higher, and return it: after etcd was restored,
        IDs from before never grant (E8). Raises StoreUnavailable.
        """
        before = self.meta.epoch
        await self._change(lambda meta: replace(meta, epoch=max(least, before + 1)))
        return self.meta.epoch

    async def _change(self, decide: Callable[[Meta], Meta]) -> None:
        try:
            while True:
                response = await self._client.range(Range(key=self._keys.meta))
                self.learn(response.kvs[0] if response.kvs else None)
                wanted = decide(self.meta)
                if wanted == self.meta:
                    return
                changed = await self._client.txn(Txn(
                    compare=(self.compare(),),
                    success=(put_op(self._keys.meta, encode_meta(wanted)), range_op(Range(key=self._keys.meta))),
                ))  # fmt: skip
                if changed.succeeded:
                    answer = changed.responses[1].response_range
                    self.learn(answer.kvs[0] if answer is not None and answer.kvs else None)
                    return
        except EtcdFailure as failure:
            raise unavailable(failure) from None


def _frozen(meta: Meta, reason: str) -> Meta:
    if meta.frozen not in ("", reason):
        raise AlreadyFrozen(meta.frozen)
    return replace(meta, frozen=reason)
