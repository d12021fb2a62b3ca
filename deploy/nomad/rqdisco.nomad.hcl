# rqdisco, in one allocation that stays where its volume is. There is no published image: deploy/compose/Dockerfile
# builds it.

job "rqdisco" {
  group "rqdisco" {
    # One, always: two daemons would each tell a node that it is alone.
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

    # A new version stops the old one before it starts: there is one state, and one daemon may use it.
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

      # Let only the clients reach its port. docs/running/nomad.md says how it asks for tokens instead.
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
