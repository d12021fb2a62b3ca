# rqdisco in one allocation that stays with its volume. There is no published image: build it with
# deploy/oci/Containerfile.

job "rqdisco" {
  group "rqdisco" {
    # Always one: two daemons would each tell a node to bootstrap.
    count = 1

    volume "state" {
      type   = "host"
      source = "rqdisco"
    }

    network {
      port "http" {
        static = 4000
        to     = 4000
      }
    }

    # The old version stops before the new one starts: only one daemon may use the state.
    update {
      max_parallel = 1
      canary       = 0
    }

    task "rqdisco" {
      driver       = "docker"
      kill_timeout = "30s"

      config {
        image = "registry.example.com/rqdisco:1.0.0"
        ports = ["http"]
      }

      # Let only the clients reach this port. docs/running/nomad.md describes the use of tokens
      # instead.
      env {
        RQDISCO_OPEN = "yes"
      }

      volume_mount {
        volume      = "state"
        destination = "/var/lib/rqdisco"
      }

      service {
        name     = "rqdisco"
        port     = "http"
        provider = "nomad"

        check {
          type     = "http"
          path     = "/readyz"
          interval = "10s"
          timeout  = "10s"
        }
      }

      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
