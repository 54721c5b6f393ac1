"""Benchmarks of eventsnn and its peers: a harness, and one folder per benchmark."""
