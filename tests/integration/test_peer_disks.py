"""Three peer daemons, and faults of the disk of one of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.test_full_disk import create_until_refused, fill
from tests.support.process import PATIENCE, DaemonProcess, Environment, ask
from tests.support.trio import Trio, ask_operator, incarnation_of

pytestmark = pytest.mark.process
NO_ROOM = "no space left on device"
Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts as `mount(name, *arguments)`, which needs root; unmounts after the test."""
    with ExitStack() as stack:

        def mount_at(name: str, *arguments: str) -> Path:
            place = tmp_path / name
            place.mkdir()
            subprocess.run(["mount", *arguments, str(place)], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)
            return place

        yield mount_at


def small_disk(mount: Mount) -> Path:
    """A file system of a megabyte."""
    return mount("disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")


def peers_of(installed: Environment, trio: Trio, name: str) -> tuple[int, str, str]:
    """Return exit status, rows and messages of `rqdisco peers`."""
    shown = installed.run("rqdisco", "--url", f"unix:{trio.socket(name)}", "peers")
    return shown.returncode, shown.stdout, shown.stderr


def test_a_copied_state_directory_does_not_start_beside_its_original(
    start: Start, installed: Environment, tmp_path: Path
) -> None:
    trio = Trio(start, tmp_path)
    discovery_id = trio.daemons["c"].create_id()
    subprocess.run(["cp", "-a", str(trio.state("c")), str(tmp_path / "copy")], check=True)
    refused = installed.run(*installed.twistd(tmp_path / "copy", *trio.options("c")))
    assert refused.returncode == 78
    assert "this state directory is a copy" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert trio.register("a", discovery_id, "n1:4001") == (200, ["n1:4001"])
    assert trio.complaints == []


def test_a_cloned_disk_and_its_original_both_stop_deciding_and_say_why(
    start: Start, installed: Environment, tmp_path: Path, mount: Mount
) -> None:
    image, clone = tmp_path / "image", tmp_path / "clone"
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image), "4M"], check=True)
    disk = mount("disk", "-o", "loop", str(image))
    trio = Trio(start, tmp_path, states={"c": disk / "state"})
    original = trio.daemons["c"]
    discovery_id, empty = original.create_id(), original.create_id()
    assert trio.register("c", discovery_id, "n1:4001") == (200, ["n1:4001"])
    assert trio.register("c", discovery_id, "n2:4001")[0] == 200

    subprocess.run(["sync", "--file-system", str(disk)], check=True)
    shutil.copyfile(image, clone)
    cloned = mount("cloned", "-o", "loop", str(clone))
    duplicate = trio.start_duplicate("c", cloned / "state")
    why = f"two daemons run as incarnation {incarnation_of(disk / 'state')}"
    for daemon in (original, duplicate):
        assert daemon.wait_for("daemon fenced")["why"] == why
        assert daemon.request("POST", "/").status == 503
        assert daemon.request("POST", f"/{empty}", {"addr": "n3:4001"}).status == 503
        assert daemon.request("DELETE", f"/{discovery_id}", {"addr": "n1:4001"}).status == 503
        assert daemon.nodes(discovery_id) == ["n1:4001", "n2:4001"]
    for name in ("c", "c-duplicate"):
        status, rows, output = peers_of(installed, trio, name)
        assert status == 1
        assert rows.splitlines()[0].split("\t")[2] == "fenced (queried)"
        assert f"no decisions here: {why}" in output
    assert trio.register("a", empty, "n3:4001")[0] == 503
    assert trio.register("a", discovery_id, "n3:4001") == (200, ["n1:4001", "n2:4001", "n3:4001"])
    other = trio.daemons["a"].create_id()
    assert trio.register("b", other, "n9:4001") == (200, ["n9:4001"]), "the others still decide"
    assert [(each["event"], each["why"]) for each in trio.daemons["a"].complaints] == [("duplicate peer identity", why)]

    duplicate.kill()
    original.terminate()
    restarted = trio.start("c")
    restarted.wait_for("peers agree", count=3)
    restarted.wait_for("registrations from elsewhere added")
    assert restarted.nodes(discovery_id) == ["n1:4001", "n2:4001", "n3:4001"]
    removed = trio.daemons["a"].request("DELETE", f"/{discovery_id}", {"addr": "n1:4001"})
    assert (removed.status, removed.document["nodes"]) == (200, ["n2:4001", "n3:4001"]), "it decides again"


def test_a_daemon_with_an_emptied_disk_bootstraps_nothing_and_its_clusters_grow_on(
    start: Start, installed: Environment, tmp_path: Path
) -> None:
    trio = Trio(start, tmp_path)
    discovery_id, empty = trio.daemons["c"].create_id(), trio.daemons["c"].create_id()
    assert trio.register("c", discovery_id, "n1:4001") == (200, ["n1:4001"])
    assert trio.register("c", discovery_id, "n2:4001")[0] == 200
    lost = incarnation_of(trio.state("c"))
    trio.daemons["c"].kill()
    shutil.rmtree(trio.state("c"))
    back = trio.start("c")
    new = incarnation_of(trio.state("c"))
    assert new != lost
    for name in "ab":
        back.wait_for("peer answers", url=trio.url(name))
        trio.daemons[name].wait_for("peer answers", url=trio.url("c"), incarnation=new)

    nodes = ["n1:4001", "n2:4001"]
    for number, name in enumerate("abc", 3):
        nodes.append(f"n{number}:4001")
        status, listed = trio.register(name, discovery_id, nodes[-1])
        assert (status, listed[0], listed[-1]) == (200, "n1:4001", nodes[-1]), "listed and joined"
        assert trio.register(name, empty, "n9:4001")[0] == 503, "granted by nobody"
        assert trio.daemons[name].request("DELETE", f"/{discovery_id}", {"addr": "n1:4001"}).status == 503
    fresh = back.create_id()
    assert trio.register("a", fresh, "n8:4001") == (200, ["n8:4001"]), "new IDs still bootstrap"
    status, rows, output = peers_of(installed, trio, "a")
    assert status == 1
    assert [tuple(row.split("\t")[:3]) for row in rows.splitlines() if row.startswith("c\t")] == [
        ("c", new[:4], "up"),
        ("c", lost[:4], "unreachable"),
    ]
    assert f"c ({lost[:4]}) does not answer" in output

    since = {name: len(daemon.events) for name, daemon in trio.daemons.items()}
    forgotten = installed.run("rqdisco", "--url", f"unix:{trio.socket('a')}", "peers", "forget", "c", "--yes")
    assert (forgotten.returncode, forgotten.stderr) == (
        0,
        f"rqdisco: forgot c ({lost}); 2 IDs are list-only: nodes join, none is told to bootstrap\n",
    )
    for name, daemon in trio.daemons.items():
        daemon.wait_for("peers agree", since[name], count=3)
        keeper = incarnation_of(trio.state(name))
        if name == "a":
            daemon.wait_for("own hints added", since[name])
        else:
            trio.daemons["a"].wait_for("registrations from elsewhere added", since["a"], sender=keeper)
    gone = trio.daemons["b"].request("POST", f"/{empty}", {"addr": "n9:4001"})
    assert (gone.status, gone.reason) == (410, "no owner, create a new ID")
    for daemon in trio.daemons.values():
        assert sorted(daemon.request("GET", f"/{discovery_id}?consistent=1").document["nodes"]) == nodes
    assert len(trio.register("c", discovery_id, "n6:4001")[1]) == 6
    assert peers_of(installed, trio, "a")[0] == 0
    assert trio.complaints == []


def test_a_daemon_on_a_restored_directory_recovers_its_own_records(start: Start, tmp_path: Path) -> None:
    trio = Trio(start, tmp_path)
    owner, state = trio.daemons["c"], trio.state("c")
    grown, first = owner.create_id(), owner.create_id()
    assert trio.register("c", grown, "n1:4001") == (200, ["n1:4001"])
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert trio.register("c", first, "n1:4001") == (200, ["n1:4001"])
    assert trio.register("a", grown, "n2:4001") == (200, ["n1:4001", "n2:4001"])
    later = owner.create_id()
    assert trio.register("b", later, "n1:4001") == (200, ["n1:4001"])
    versions = {each: trio.explain("c", each)["version"] for each in (grown, first, later)}
    owner.kill()
    # In place, which keeps the inodes: moved away and back, or a disk's snapshot.
    for path in [path for path in state.rglob("*") if path.is_file() and path not in before]:
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)

    owner = trio.start("c")
    owner.wait_for("newer records recovered from a peer")
    owner.wait_for("peers agree", count=3)
    assert [owner.nodes(each) for each in (grown, first, later)] == [["n1:4001", "n2:4001"], ["n1:4001"], ["n1:4001"]]
    for each in (first, later):
        assert trio.register("c", each, "n9:4001") == (200, ["n1:4001", "n9:4001"]), "nobody is granted a second time"
        assert trio.explain("c", each)["version"] > versions[each]
    assert trio.explain("c", grown)["version"] > versions[grown]
    trio.restart_all()
    assert trio.lists(first) == trio.lists(later) == [["n1:4001", "n9:4001"]] * 3
    assert len({trio.explain(name, grown)["version"] for name in "abc"}) == 1
    assert trio.complaints == []


def test_an_owner_with_a_full_disk_refuses_with_a_reason_and_continues_once_there_is_room(
    start: Start, tmp_path: Path, mount: Mount
) -> None:
    disk = small_disk(mount)
    trio = Trio(start, tmp_path, states={"c": disk / "state"})
    owner = trio.daemons["c"]
    used, empty = owner.create_id(), owner.create_id()
    elsewhere = trio.daemons["a"].create_id()
    assert trio.register("c", used, "n1:4001") == (200, ["n1:4001"])
    assert trio.register("a", used, "n2:4001")[0] == 200
    ballast = fill(disk)
    created, refusal = create_until_refused(owner)
    assert (refusal.status, refusal.document["reason"]) == (503, NO_ROOM)
    for name in "abc":
        refused = trio.daemons[name].request("POST", f"/{empty}", {"addr": "n3:4001"})
        assert (refused.status, refused.document["reason"]) == (503, NO_ROOM)
        refused = trio.daemons[name].request("DELETE", f"/{used}", {"addr": "n2:4001"})
        assert (refused.status, refused.document["reason"]) == (503, NO_ROOM)
        status, listed = trio.register(name, used, "n3:4001")
        assert status == 503 or listed == ["n1:4001", "n2:4001", "n3:4001"]
    assert owner.nodes(used) == ["n1:4001", "n2:4001"]
    assert trio.register("c", elsewhere, "n1:4001") == (200, ["n1:4001"]), "IDs of the others continue"
    assert trio.register("a", trio.daemons["b"].create_id(), "n1:4001") == (200, ["n1:4001"])

    ballast.unlink()
    assert trio.register("b", empty, "n4:4001") == (200, ["n4:4001"])
    assert trio.register("c", used, "n5:4001")[0] == 200
    trio.restart_all()
    assert trio.lists(empty) == [["n4:4001"]] * 3
    assert trio.lists(elsewhere) == [["n1:4001"]] * 3
    assert all(listed == [] for each in created for listed in trio.lists(each))
    (agreed,) = {tuple(listed) for listed in trio.lists(used)}
    assert {"n1:4001", "n2:4001", "n5:4001"} <= set(agreed)
    assert trio.complaints == []


def test_an_owner_grants_while_the_disk_of_a_peer_is_full(start: Start, tmp_path: Path, mount: Mount) -> None:
    disk = small_disk(mount)
    trio = Trio(start, tmp_path, states={"c": disk / "state"})
    fill_up(trio.daemons["c"], disk)
    discovery_id = trio.daemons["a"].create_id()
    assert trio.register("c", discovery_id, "n1:4001") == (200, ["n1:4001"]), "the other peer has it"
    assert trio.register("b", discovery_id, "n2:4001")[0] == 200
    trio.daemons["b"].kill()
    trio.daemons["a"].wait_for("peer does not answer", url=trio.url("b"))
    assert trio.register("c", discovery_id, "n3:4001")[0] == 200, "answered although nobody else has it"
    assert json.loads(ask_operator(trio.socket("a"), "/operator/peers"))["unwitnessed"] == 1
    empty = trio.daemons["a"].create_id()
    assert trio.register("a", empty, "n4:4001")[0] == 503, "no grant before a peer has it, if one is up"
    (disk / "ballast").unlink()
    assert trio.register("a", empty, "n4:4001") == (200, ["n4:4001"])
    assert trio.complaints == []


def fill_up(daemon: DaemonProcess, disk: Path) -> None:
    """Leave no room for anything; not even on the current page."""
    fill(disk)
    create_until_refused(daemon)


def test_acknowledged_registrations_are_everywhere_after_all_daemons_were_killed_at_once(
    start: Start, tmp_path: Path
) -> None:
    trio = Trio(start, tmp_path)
    acknowledged: list[tuple[str, str]] = []
    bootstrap: list[str] = []
    enough = threading.Semaphore(0)
    ids = [daemon.create_id() for daemon in trio.daemons.values() for _ in range(4)]

    def register(name: str, thread: int) -> None:
        connection = trio.daemons[name].connect()
        number = 0
        while True:
            discovery_id, addr = ids[number % len(ids)], f"{name}{thread}-{number}:4001"
            try:
                reply = ask(connection, "POST", f"/{discovery_id}", {"addr": addr})
            except (OSError, HTTPException):
                return
            if reply.status == 200:
                acknowledged.append((discovery_id, addr))
                if reply.document["nodes"] == [addr]:
                    bootstrap.append(discovery_id)
            number += 1
            enough.release()

    threads = [threading.Thread(target=register, args=(name, thread)) for name in "abc" for thread in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(600):
        assert enough.acquire(timeout=PATIENCE)
    for daemon in trio.daemons.values():
        daemon.process.kill()
    for thread in threads:
        thread.join()
    for daemon in trio.daemons.values():
        daemon.kill()
    assert len(acknowledged) > 500
    assert sorted(bootstrap) == sorted(ids), "each ID had one seed"

    trio.start_all()
    for daemon in trio.daemons.values():
        held = {discovery_id: set(daemon.nodes(discovery_id)) for discovery_id in ids}
        assert [each for each in acknowledged if each[1] not in held[each[0]]] == []
    assert all(len({tuple(listed) for listed in trio.lists(discovery_id)}) == 1 for discovery_id in ids)
    assert trio.complaints == []
