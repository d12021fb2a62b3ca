"""Stateless daemons over one model etcd, on virtual time."""
