"""The twistd plugin. It names the service by strings, so that listing plugins imports none of it."""

from twisted.application.service import ServiceMaker

rqdisco = ServiceMaker("rqdisco", "rqdisco.tap", "The rqlite discovery service that you run yourself.", "rqdisco")
