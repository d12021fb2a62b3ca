"""Checks that an answer fits its request: etcd ignores what it does not understand, so an answer may
be one to less than was asked.
"""

from __future__ import annotations

from rqdisco.backends.etcd.messages import OperationResponse, Txn, TxnOperation, TxnResponse


def fits(request: Txn, answer: TxnResponse) -> bool:
    """Report whether there is one response of the right kind to each operation of the branch that
    was taken.
    """
    operations = request.success if answer.succeeded else request.failure
    responses = answer.responses
    return len(operations) == len(responses) and all(map(_fits, operations, responses))


def _fits(operation: TxnOperation, response: OperationResponse) -> bool:
    if operation.request_txn is not None:
        return response.response_txn is not None and fits(operation.request_txn, response.response_txn)
    if operation.request_put is not None:
        return response.response_put is not None
    if operation.request_range is not None:
        return response.response_range is not None
    return response.response_delete_range is not None
