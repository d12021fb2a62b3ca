"""The command `etcd restored`, which speaks to etcd itself, since the daemons are stopped."""

from __future__ import annotations

from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import EtcdFailure
from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.backends.etcd.messages import Range, prefix_end
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.backends.etcd.store_state import StoreState
from rqdisco.cli.app import DONE, App, CommandFailed, UsageError
from rqdisco.core.errors import CannotStart, StoreUnavailable
from rqdisco.core.plurals import counted
from rqdisco.security.certificates import Certificates
from rqdisco.service.config import EtcdConfig
from rqdisco.service.wiring.etcd import etcd_credentials, etcd_transports

WARNING = (
    "every daemon of the store must be stopped, and etcd restored; nodes are listed and join under the IDs of before,"
    " but none of these IDs tells a node to bootstrap any more"
)


async def restored(app: App, etcd: EtcdConfig, *, yes: bool) -> int:
    """Begin a new epoch in a store that was restored from a backup (E8)."""
    if not yes:
        raise UsageError(f"{WARNING}; confirm with --yes")
    client = _connect(app, etcd)
    return await begin_epoch(app, client, EtcdKeys(etcd.prefix))


async def begin_epoch(app: App, client: EtcdClient, keys: EtcdKeys) -> int:
    """As `restored`, over a client."""
    state = StoreState(keys, RevisionGuard(Seen(), app.output.message), client, lambda: None)
    try:
        found = await client.range(Range(key=keys.meta))
        if not found.kvs:
            raise CommandFailed(f"etcd has no store at {keys.base.decode()}: set --etcd-prefix as for the daemons")
        state.learn(found.kvs[0])
        # Higher than that of any daemon which remembers a later state than the backup's.
        epoch = await state.raise_epoch(int(app.wall()))
        ids = await client.range(Range(key=keys.ids, range_end=prefix_end(keys.ids), count_only=True))
    except EtcdFailure as failure:
        raise CommandFailed(str(failure)) from None
    except StoreUnavailable as error:
        raise CommandFailed(error.reason) from None
    app.output.message(f"epoch {epoch} begins; {counted(ids.count, 'ID')} from before grant nothing; start the daemons")
    return DONE


def _connect(app: App, etcd: EtcdConfig) -> EtcdClient:
    try:
        # Every command gets the reactor as its clock.
        transport, streams = etcd_transports(etcd, app.clock, Certificates(app.clock.seconds))
        config = ClientConfig(etcd.endpoints, etcd_credentials(etcd))
    except CannotStart as error:
        raise CommandFailed(str(error)) from None
    return EtcdClient(config, transport, streams, app.clock, RevisionGuard(Seen(), app.output.message), EtcdCounts())
