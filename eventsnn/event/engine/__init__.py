"""Event loop of a batch of samples, and the parts it is made of."""
