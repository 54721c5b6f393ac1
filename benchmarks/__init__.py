"""Benchmarks of eventsnn; `python -m benchmarks list` lists them."""
