"""Parts that methods are built from: networks other than the generator, weighted loss terms."""
