"""Training methods; `build` constructs the method that a recipe names."""
