"""Programs that the harness runs as subprocesses: one library each, each in its own environment."""
