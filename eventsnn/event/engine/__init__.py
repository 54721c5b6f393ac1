"""Event loop for a batch of samples, and its parts."""
