"""What the HTTP doors can be asked, as one OpenAPI 3.1 document for each kind of listener: `GET /openapi.json`."""
