"""The variables that begin with RQDISCO_, and those among them that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rqdisco.service.config_file import suggest
from rqdisco.service.option_table import OPTIONS

PREFIX = "RQDISCO_"
# Variables that the `rqdisco` command reads besides the options of the daemon.
COMMAND_VARIABLES = frozenset(
    {
        "RQDISCO_CA",
        "RQDISCO_CERT",
        "RQDISCO_FROM_TOKEN",
        "RQDISCO_KEY",
        "RQDISCO_TOKEN",
        "RQDISCO_TO_TOKEN",
        "RQDISCO_URL",
    }
)
# Kubernetes and Docker describe a service named rqdisco, or rqdisco-NAME, in variables.
_OF_SERVICES = re.compile(
    r"RQDISCO_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)\Z"
)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a text for each variable that looks like one of rqdisco's, and is none."""
    known = COMMAND_VARIABLES | {option.variable for option in OPTIONS.values()}
    return [
        f"{name} is not a variable of rqdisco{suggest(name, known, PREFIX)}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and _OF_SERVICES.match(name) is None
    ]
