"""The command `rqdisco systemd install`: writes units for this installation of rqdisco, and
completion scripts.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

Scope = Literal["user", "system"]

UNITS = ("rqdisco.service", "rqdisco.socket")
ETCD_UNITS = ("rqdisco-etcd.service",)
_PROGRAM = "/opt/rqdisco/bin/twistd"
# Directories that a service of the system cannot see (ProtectHome=, PrivateTmp=).
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108, nothing is written there
# Settings for the system's manager only, and units that the one of a user does not know.
_SYSTEM_ONLY = (
    *("CapabilityBoundingSet=", "DynamicUser=", "Private", "Protect", "RemoveIPC="),
    *("Wants=network-online.target", "After=network-online.target"),
)
_FOR_USERS = {
    " network.target": "",
    "WantedBy=multi-user.target": "WantedBy=default.target",
    ", and a port below 1024 needs no privilege in the service": "",
    "unix:/run/rqdisco/": "unix:$XDG_RUNTIME_DIR/rqdisco/",
}


class CannotInstall(Exception):
    """The units cannot be installed; the text says why, and what to do."""


class Installation(NamedTuple):
    """The place of this rqdisco: its twistd, and all files that the service needs to read."""

    twistd: Path
    needed: tuple[Path, ...]


class PlannedFile(NamedTuple):
    """A file to write. A unit may have been changed by its administrator, a script is ours."""

    path: Path
    content: str
    is_unit: bool


def find_installation() -> Installation:
    """Return where the running command is installed. Raises CannotInstall."""
    beside = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent, Path(sys.argv[0]).resolve().parent)
    for directory in beside:
        twistd = directory / "twistd"
        if os.access(twistd, os.X_OK):
            package = Path(str(files("rqdisco")))
            return Installation(twistd, (twistd, package, Path(sys.executable), Path(sys.executable).resolve()))
    raise CannotInstall(f"there is no twistd in {beside[0]}, where rqdisco is installed; install Twisted there too")


def plan(
    scope: Scope,
    installation: Installation,
    environment: Mapping[str, str],
    script: Callable[[str], str],
    units: Sequence[str] = UNITS,
) -> list[PlannedFile]:
    """Return the files to write. `script` returns the completion script for a shell. Raises
    CannotInstall.
    """
    if scope == "system":
        _check_visible(installation)
    directory, scripts = _places(scope, environment)
    planned = [PlannedFile(directory / name, unit(name, scope, installation.twistd), True) for name in units]
    return planned + [PlannedFile(path, script(shell), False) for shell, path in scripts.items()]


def unit(name: str, scope: Scope, twistd: Path) -> str:
    """Return a unit that runs `twistd`."""
    lines = (files("rqdisco") / "units" / name).read_text().replace(_PROGRAM, _quote(twistd)).splitlines()
    if scope == "user":
        lines = list(_for_users(lines))
    return "\n".join(lines) + "\n"


def find_changed(planned: Iterable[PlannedFile]) -> list[Path]:
    """Return the units that exist with another content."""
    return [each.path for each in planned if each.is_unit and each.path.exists() and _differs(each)]


def write(planned: Iterable[PlannedFile]) -> list[str]:
    """Write the files; return what was done with each. Raises CannotInstall."""
    return [_write(each) for each in planned]


def cache_plugins() -> None:
    """Have Twisted write its list of plugins, beside them: a service without write access would try
    again, and log an error, with each start.
    """
    list(getPlugins(IServiceMaker))


def next_steps(scope: Scope, units: Sequence[str]) -> list[str]:
    """Return the commands that start the service, and at boot."""
    systemctl = "systemctl --user" if scope == "user" else "systemctl"
    steps = [f"{systemctl} daemon-reload", f"{systemctl} enable --now {units[0]}"]
    if scope == "user":
        steps.append("loginctl enable-linger    # runs it while you are not logged in")
    return steps


def _check_visible(installation: Installation) -> None:
    for path in installation.needed:
        if any(path.is_relative_to(hidden) for hidden in _HIDDEN):
            raise CannotInstall(
                f"{path}: the service of the system cannot read it; install rqdisco outside of {', '.join(_HIDDEN)},"
                " such as by `pipx install --global`, or use --user"
            )


def _places(scope: Scope, environment: Mapping[str, str]) -> tuple[Path, dict[str, Path]]:
    """Return the directory of the units, and the path of the completion script for each shell."""
    if scope == "system":
        share = Path("/usr/local/share")
        return Path("/etc/systemd/system"), {
            "bash": share / "bash-completion/completions/rqdisco",
            "zsh": share / "zsh/site-functions/_rqdisco",
            "fish": share / "fish/vendor_completions.d/rqdisco.fish",
        }
    if not environment.get("HOME"):
        raise CannotInstall("HOME is not set")
    home = Path(environment["HOME"])
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    return config / "systemd" / "user", {
        "bash": data / "bash-completion/completions/rqdisco",
        "zsh": data / "zsh/site-functions/_rqdisco",
        "fish": config / "fish/completions/rqdisco.fish",
    }


def _for_user(line: str) -> str:
    for before, after in _FOR_USERS.items():
        line = line.replace(before, after)
    return line


def _for_users(lines: Iterable[str]) -> Iterable[str]:
    """Yield the lines of a unit for the manager of a user: without what needs privileges, and its
    comments.
    """
    comments: list[str] = []
    for line in map(_for_user, lines):
        if line.startswith("#"):
            comments.append(line)
            continue
        if not line.startswith(_SYSTEM_ONLY):
            yield from comments
            yield line
        comments = []


def _quote(path: Path) -> str:
    """Quote a path for ExecStart=."""
    text = str(path).replace("%", "%%")
    if not any(character in text for character in " \t\"'\\"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _differs(planned: PlannedFile) -> bool:
    try:
        return planned.path.read_text() != planned.content
    except (OSError, UnicodeDecodeError):
        return True


def _write(planned: PlannedFile) -> str:
    is_there = planned.path.exists()
    if is_there and not _differs(planned):
        return f"{planned.path}: unchanged"
    try:
        planned.path.parent.mkdir(parents=True, exist_ok=True)
        planned.path.write_text(planned.content)
        # Not by the umask: shells of other users read completions.
        planned.path.chmod(0o644)
    except OSError as error:
        raise CannotInstall(f"{planned.path}: {error.strerror}") from None
    return f"{planned.path}: {'replaced' if is_there else 'written'}"
