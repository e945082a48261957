"""The library that pipelines, service and monitoring share: what a cell, a model and an answer are."""
