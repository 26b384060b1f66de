"""Loss functions of training, one file for each idea; import them from their modules."""
