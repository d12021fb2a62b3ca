"""etcd for tests: a model that answers as Debian's etcd 3.4.23 does, and real members."""
