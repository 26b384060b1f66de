"""Export of a checkpoint as a bundle: graphs, the gates that they must pass, and the model card."""
