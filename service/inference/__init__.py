"""Inference: files, decoding, batching, engines, summaries and the prediction log; no HTTP endpoints."""
