"""The methods of training; `build` makes the one that a recipe names."""
