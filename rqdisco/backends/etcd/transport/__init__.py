"""Connections to etcd: single requests over pooled ones, and streams."""
