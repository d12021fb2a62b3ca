"""The directory of a daemon that has peers: the machine decides, and what it shows is read from its
state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from rqdisco.backends.gossip.core import inputs, queries
from rqdisco.backends.gossip.core.state import State
from rqdisco.backends.gossip.driver import Driver
from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import AmbiguousName
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.ids import ID_BYTES, RandomBytes
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View
from rqdisco.storage.ordered_keys import ordered_keys

# Decoding a page takes about a millisecond.
_PAGE = 100


class GossipDirectory:
    """Reads `state`, and changes it through `driver`. `seconds` is the clock of the state."""

    def __init__(
        self,
        state: State,
        driver: Driver,
        subscriptions: Subscriptions,
        random: RandomBytes,
        seconds: Callable[[], float],
    ) -> None:
        self._state = state
        self._store = state.store
        self._driver = driver
        self._subscriptions = subscriptions
        self._random = random
        self._seconds = seconds

    @property
    def index(self) -> int:
        return max(1, self._store.settled_version)

    @property
    def store_id(self) -> str:
        return self._state.own

    @property
    def frozen(self) -> str | None:
        return self._state.frozen

    async def freeze(self, reason: str) -> None:
        await self._driver.request(inputs.FreezeStore(reason))

    async def thaw(self) -> None:
        await self._driver.request(inputs.ThawStore())

    def has_owner(self, record: View | Record) -> bool:
        return queries.has_owner(self._state, record)

    def name_host(self, host: str | None) -> str | None:
        return queries.name_host(self._state, host)

    async def create(self) -> Record:
        record: Record = await self._driver.request(inputs.Create(self._random(ID_BYTES)))
        return record

    async def create_named(self, discovery_id: str) -> Record:
        record: Record = await self._driver.request(inputs.CreateNamed(discovery_id))
        return record

    async def look_up(self, discovery_id: str) -> View:
        record = queries.shown(self._state, discovery_id)
        if record is not None:
            return self.view(record)
        answer: View = await self._driver.request(inputs.LookUp(discovery_id))
        # A newer copy may have arrived before the answer; its change was reported, and is not again.
        record = queries.shown(self._state, discovery_id)
        return answer if record is None or record.version <= answer.version else self.view(record)

    async def look_up_at_owner(self, discovery_id: str) -> View:
        view: View = await self._driver.request(inputs.LookUp(discovery_id, at_owner=True))
        return view

    async def inspect(self, discovery_id: str) -> Record:
        record = queries.inspect(self._state, discovery_id)
        if record is None:
            record = await self._driver.request(inputs.Inspect(discovery_id))
        return record

    def age(self, record: View | Record) -> float | None:
        return queries.seconds_since_owner_contact(self._state, record, self._seconds())

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._subscriptions.add(discovery_id, changed)

    async def look_up_name(self, name: str) -> View:
        variants = [key.decode() for key in self._store.name_index.variants(name.encode())]
        if not variants:
            return await self.look_up(name)
        if len(variants) > 1 or self._store.settled(name) is not None:
            raise AmbiguousName(name)
        return await self.look_up(variants[0])

    async def has_subdomains(self, name: str) -> bool:
        return self._store.name_index.has_subdomains(name.encode())

    async def register(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        outcome: RegistrationOutcome = await self._driver.request(inputs.Register(discovery_id, node, host))
        return outcome

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        removal: Removal = await self._driver.request(inputs.Remove(discovery_id, addr))
        return removal

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> ClaimOutcome:
        outcome: ClaimOutcome = await self._driver.request(inputs.Claim(discovery_id, put, host))
        return outcome

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        is_put: bool = await self._driver.request(inputs.ReportLeader(discovery_id, put, host, index))
        return is_put

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        clearing: Clearing = await self._driver.request(inputs.ClearLeader(discovery_id, index))
        return clearing

    def view(self, record: Record) -> View:
        return queries.view(self._state, record)

    async def records(self) -> AsyncIterator[Sequence[Record]]:
        scan = self._store.scan()
        while keys := scan.next_keys(_PAGE):
            page = [queries.inspect(self._state, key.decode()) for key in keys]
            yield [record for record in page if record is not None]

    async def search(self, after: str, text: str) -> AsyncIterator[Sequence[Record]]:
        # Views show hints too, which are not in the records.
        hinted = frozenset(each.encode() for each in self._state.hints.hinted_ids)
        for keys in ordered_keys(self._store, after, text, hinted):
            page = [queries.inspect(self._state, key.decode()) for key in keys]
            yield [record for record in page if record is not None]

    async def count(self) -> int:
        return len(self._store)

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool, during: str | None = None) -> bool:
        has_changed: bool = await self._driver.request(inputs.Adopt(transferred, as_own, during))
        return has_changed
