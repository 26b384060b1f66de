"""Loss functions of training, one module for each idea."""
