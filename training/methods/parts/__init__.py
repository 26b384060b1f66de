"""Parts of methods: networks other than the generator, and weighted loss terms."""
