"""Checkpoint to bundle: graphs, the gates that they pass, and what the model card says of them."""
