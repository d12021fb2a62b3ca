"""The command migrate.

The order of the steps of a migration keeps both services from granting under one ID (P1):

1. Freeze every new daemon: nothing is granted there while records arrive.
2. Freeze every old daemon, and leave it frozen. It waits for the answers to its last grants, and
   grants nothing afterwards.
3. Copy the records, and compare them.
4. Thaw the new daemons.

So while any old daemon is not frozen, no new one has granted anything since it was frozen, and every
step may be repeated. Both reasons for a freeze name both stores; a daemon that is frozen for another
reason refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rqdisco.cli.app import DONE, App, CommandFailed, sleep
from rqdisco.cli.copies import Copy, sources_of
from rqdisco.cli.participants import PATIENCE_SECONDS, Participant, Services, check_peers
from rqdisco.cli.transfer import batches
from rqdisco.client import DiscoveryClient, ExportedRecord, ImportResult, Refused
from rqdisco.client.exports import VERSION
from rqdisco.core.plurals import counted

_PAUSE_SECONDS = 1.0
_MAX_NAMED = 5


class Migration:
    """The move of all IDs from `sources` to `targets`."""

    def __init__(self, app: App, services: Services) -> None:
        self._app = app
        self.sources = [Participant(app, url, services.source_token) for url in services.sources]
        self.targets = [Participant(app, url, services.target_token) for url in services.targets]
        self.from_reason = self.to_reason = self.undo_reason = ""

    async def prepare(self) -> None:
        """Check that both services can take part, without changing anything. Raises
        CommandFailed.
        """
        for daemon in (*self.sources, *self.targets):
            await daemon.update()
        stores = [each.store for each in (*self.sources, *self.targets)]
        if len(set(stores)) < len(stores):
            raise CommandFailed("two of the URLs lead to the same records")
        if any(each.exports > VERSION for each in self.sources):
            raise CommandFailed("the old daemons are newer than this command: run it from their release")
        if min(each.exports for each in self.targets) < max(each.exports for each in self.sources):
            raise CommandFailed("the new daemons are older than the old ones, and would lose what these decided")
        moved = f"{self.sources[0].name} ({' '.join(sorted(each.store for each in self.sources))})"
        self.from_reason = f"frozen for a migration from {moved}"
        self.undo_reason = f"frozen to undo a migration from {moved}"
        self.to_reason = f"frozen for a migration to {self.targets[0].name} ({self.targets[0].store})"
        await self.check_members()

    async def check_members(self) -> None:
        """Check that the URLs name every daemon of both services. Raises CommandFailed."""
        for option, daemons in (("--from", self.sources), ("--to", self.targets)):
            for daemon in daemons:
                check_peers(option, daemon, await daemon.peers(), daemons)

    @property
    def is_thawing(self) -> bool:
        """Report whether a target was thawed after all sources were frozen for it: the targets are
        frozen before them, so that was the last step.
        """
        has_frozen = all(each.frozen == self.to_reason for each in self.sources)
        return has_frozen and any(each.frozen is None for each in self.targets)

    async def freeze(self) -> None:
        """Freeze the targets, then the sources. Raises CommandFailed."""
        for target in self.targets:
            await target.freeze(self.from_reason)
        for source in self.sources:
            await source.freeze(self.to_reason)
            self._app.output.message(f"{source.name} is frozen")
        # A daemon that joined in the meantime could still decide.
        await self.check_members()

    async def collect(self) -> tuple[list[Copy], dict[str, Copy]]:
        """Return the copies of the sources, and which one to take each ID from, once all that was
        answered has reached its owner. Raises CommandFailed.
        """
        deadline = self._app.clock.seconds() + PATIENCE_SECONDS
        while True:
            copies = [await source.copy() for source in self.sources]
            documents = [await source.peers() for source in self.sources]
            hints = sum(document.hints for document in documents if document is not None)
            chosen = dict.fromkeys(copies[0].entries, copies[0]) if len(copies) == 1 else sources_of(copies)
            if chosen is not None and not hints:
                return copies, chosen
            if self._app.clock.seconds() >= deadline:
                waiting = f"{hints} registrations wait for their owners" if hints else "peers hold different records"
                raise CommandFailed(f"{waiting}: run the command again, or with --abort")
            await sleep(self._app, _PAUSE_SECONDS)

    async def import_(self, copies: Sequence[Copy], chosen: dict[str, Copy]) -> None:
        """Import the records into the first target. Raises CommandFailed."""
        target = self.targets[0]
        refusals: list[str] = []
        with self._app.output.progress("importing", len(chosen)) as advance:
            for batch in batches(_taken(copies, chosen)):
                try:
                    result = await target.ask(partial(self._send, batch=batch))
                except Refused as error:
                    raise CommandFailed(f"{target.name} refuses the import: {error}; run the command again") from None
                refusals += [f"{each.id}: {each.why}" for each in result.refused]
                advance(len(batch))
        if refusals:
            for refusal in refusals[:_MAX_NAMED]:
                self._app.output.message(f"refused {refusal}")
            raise CommandFailed(
                f"{target.name} refuses {counted(len(refusals), 'ID')}; both services stay frozen: run the command"
                " again with --abort"
            )

    async def compare(self, chosen: dict[str, Copy]) -> None:
        """Check that every target has all records. Raises CommandFailed."""
        deadline = self._app.clock.seconds() + PATIENCE_SECONDS
        for target in self.targets:
            while differing := differences(chosen, await target.copy()):
                # Other peers of the first target receive the records a little later.
                if target is self.targets[0] or self._app.clock.seconds() >= deadline:
                    raise CommandFailed(
                        f"{target.name} has other content under {_some(differing)}; both services stay frozen: run the"
                        " command again, or with --abort"
                    )
                await sleep(self._app, _PAUSE_SECONDS)

    async def thaw_targets(self) -> None:
        """Thaw the targets, the owner of the IDs last. Raises CommandFailed."""
        for target in reversed(self.targets):
            if target.frozen is not None:
                await target.thaw()

    async def _send(self, client: DiscoveryClient, *, batch: list[ExportedRecord]) -> ImportResult:
        return await client.import_records(batch, adopt=True, frozen=self.from_reason)


async def migrate(app: App, services: Services) -> int:
    """Move all IDs."""
    migration = Migration(app, services)
    await migration.prepare()
    target = migration.targets[0]
    if any(each.frozen == migration.undo_reason for each in migration.targets):
        raise CommandFailed("an earlier command began to undo this migration: repeat it, with --abort")
    if migration.is_thawing:
        _, chosen = await migration.collect()
        held = (await target.copy()).entries
        if missing := [each for each in chosen if each not in held]:
            raise CommandFailed(
                f"{target.name} was thawed before it had {_some(missing)}: freeze it again, with `rqdisco --url"
                f" {target.name} freeze {migration.from_reason!r}`, and run the command again"
            )
        await migration.thaw_targets()
        app.output.message(f"moved before: {target.name} has {counted(len(chosen), 'ID')}")
    else:
        await migration.freeze()
        copies, chosen = await migration.collect()
        await migration.import_(copies, chosen)
        await migration.compare(chosen)
        await migration.thaw_targets()
        app.output.message(f"moved {counted(len(chosen), 'ID')} to {target.name}")
    app.output.message(
        "point DNS names and load balancers to the new service, then stop the old daemons; they stay frozen. Thaw them"
        " (rqdisco thaw) only if the new service was never used. To move back, migrate to an"
        " empty service"
    )
    return DONE


async def abort(app: App, services: Services) -> int:
    """Return to the sources, if the targets have decided nothing since."""
    migration = Migration(app, services)
    await migration.prepare()
    if not any(each.frozen == migration.to_reason for each in migration.sources):
        reasons = (migration.from_reason, migration.undo_reason)
        if not any(each.frozen in reasons for each in migration.targets):
            raise CommandFailed("none of the old daemons is frozen for this migration")
    # A target that is still frozen for the migration has decided nothing since the sources were.
    if any(each.frozen != migration.from_reason for each in migration.targets):
        await _freeze_unused(migration)
    for source in migration.sources:
        if source.frozen == migration.to_reason:
            await source.thaw()
            app.output.message(f"{source.name} is thawed")
    held = (await migration.targets[0].copy()).entries
    imported = {each for source in migration.sources for each in (await source.copy()).entries if each in held}
    if imported:
        app.output.message(
            f"{migration.targets[0].name} has {counted(len(imported), 'ID')} of them and stays frozen: empty it before"
            " you use it"
        )
    else:
        await migration.thaw_targets()
    return DONE


def differences(chosen: dict[str, Copy], target: Copy) -> list[str]:
    """Return the IDs that the target lacks, or has with other content."""
    differing = []
    for discovery_id, copy in chosen.items():
        entry = target.entries.get(discovery_id)
        if entry is None or entry.checksum != copy.entries[discovery_id].checksum:
            differing.append(discovery_id)
    return differing


async def _freeze_unused(migration: Migration) -> None:
    """Freeze the targets, which were thawed, for another reason than the migration's: it tells a
    repeated abort that they may have decided something. Raises CommandFailed if they have.
    """
    for target in migration.targets:
        if target.frozen != migration.from_reason:
            await target.freeze(migration.undo_reason)
    if any(each.frozen != migration.to_reason for each in migration.sources):
        # They were compared before the first source was thawed.
        return
    _, chosen = await migration.collect()
    held = await migration.targets[0].copy()
    if differences(chosen, held) or len(held.entries) != len(chosen):
        await migration.thaw_targets()
        raise CommandFailed(
            "the new service has been used since, and the old one lacks what it decided: migrate back instead, to"
            " daemons with empty state directories"
        )


def _taken(copies: Sequence[Copy], chosen: dict[str, Copy]) -> Iterator[ExportedRecord]:
    for copy in copies:
        for record in copy.records():
            if chosen[record.id] is copy:
                yield record


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else ""
    return f"{', '.join(ids[:_MAX_NAMED])}{more}"
