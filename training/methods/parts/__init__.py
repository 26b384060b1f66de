"""What methods are made of: networks other than the generator, and weighted loss terms."""
