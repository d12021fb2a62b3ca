"""Tells twistd and twist that there is a service called rqdisco; imports nothing of it until it is
run.
"""

from twisted.application.service import ServiceMaker

rqdisco = ServiceMaker(
    "rqdisco", "rqdisco.tap", "The discovery service for rqlite that one can run oneself.", "rqdisco"
)
