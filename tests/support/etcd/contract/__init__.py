"""The contract of etcd: one set of tests for the model and the real one.

Others may use the same etcd, so every test has keys of its own and compares revisions to those it
has seen. Texts of malformed JSON are not compared.
"""

from __future__ import annotations

from tests.support.etcd.contract.keys import KeyContract
from tests.support.etcd.contract.leases import LeaseContract
from tests.support.etcd.contract.maintenance import MaintenanceContract
from tests.support.etcd.contract.transactions import TransactionContract
from tests.support.etcd.contract.users import UserContract
from tests.support.etcd.contract.watches import WatchContract


class Contract(KeyContract, TransactionContract, LeaseContract, WatchContract, MaintenanceContract, UserContract):
    """All tests. A subclass has a fixture `etcd`."""
