"""Members of the cluster, their liveness, and whether this daemon may decide."""
