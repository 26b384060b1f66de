"""What methods are made of: networks beside the generator, and weighted loss terms."""
