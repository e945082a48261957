"""From bytes to predictions: files, decoding, batching, engines, summaries, the prediction log."""
