"""The parts that all HTTP APIs share: authorization, deadlines, responses, request telemetry."""
