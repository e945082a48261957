"""Peers and limits, side by side in one run; see `benchmarks.report` for what each prints and writes."""
