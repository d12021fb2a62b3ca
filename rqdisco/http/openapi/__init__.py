"""The OpenAPI 3.1 description of the HTTP APIs: `GET /openapi.json`."""
