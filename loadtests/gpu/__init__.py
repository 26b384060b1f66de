"""Benches of a GPU: engines, the service, and training, each against the floor of the machine."""
