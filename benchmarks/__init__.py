"""Benchmarks of eventsnn: `python -m benchmarks list` says which there are."""
