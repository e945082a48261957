"""The HTTP interface: endpoints, schemas, errors, API keys, middleware, formats, corrections."""
