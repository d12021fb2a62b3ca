"""The composition root. `daemon` builds a daemon from top to bottom; the other modules build its
larger parts: `storage`, `telemetry`, `backend` and `listeners`.

The gossip backend joins its own parts, in `rqdisco.backends.gossip.assembly`.
"""
