"""Rounds of networks whose delays differ between the synapses of a source."""
