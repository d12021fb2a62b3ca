"""The backend of stateless daemons: etcd stores the records, and its transactions decide."""
