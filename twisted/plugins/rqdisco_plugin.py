"""Registers the rqdisco service with twistd and twist. Imports none of it until it runs."""

from twisted.application.service import ServiceMaker

rqdisco = ServiceMaker("rqdisco", "rqdisco.tap", "A self-hosted discovery service for rqlite clusters.", "rqdisco")
