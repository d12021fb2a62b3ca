# Three rqlite nodes that find each other through rqdisco, one on each Nomad client.

job "rqlite" {
  group "rqlite" {
    count = 3

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    volume "data" {
      type   = "host"
      source = "rqlite"
    }

    network {
      port "http" {
        static = 4001
        to     = 4001
      }
      port "raft" {
        static = 4002
        to     = 4002
      }
    }

    # One at a time, so that a majority is always up.
    update {
      max_parallel = 1
    }

    task "rqlite" {
      driver       = "docker"
      kill_timeout = "30s"

      config {
        image = "rqlite/rqlite"
        ports = ["http", "raft"]
        args = [
          # The data stays on the Nomad client, and so does the name: an allocation elsewhere is
          # another node.
          "-node-id=${node.unique.name}",
          "-http-addr=0.0.0.0:4001",
          "-http-adv-addr=${NOMAD_ADDR_http}",
          "-raft-addr=0.0.0.0:4002",
          "-raft-adv-addr=${NOMAD_ADDR_raft}",
          # rqdisco flags orders --rqlite 10 --mode consul-kv --url http://rqdisco.example.com:4000
          "-disco-mode=consul-kv",
          "-disco-key=orders",
          "-disco-config={\"address\":\"rqdisco.example.com:4000\"}",
        ]
      }

      volume_mount {
        volume      = "data"
        destination = "/rqlite/file"
      }

      service {
        name     = "rqlite"
        port     = "http"
        provider = "nomad"

        check {
          type     = "http"
          path     = "/readyz"
          interval = "10s"
          timeout  = "5s"
        }
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
