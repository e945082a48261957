"""Endpoints over HTTP: forms, schemas, errors, keys, middleware, formats, corrections."""
