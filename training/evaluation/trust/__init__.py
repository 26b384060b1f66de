"""How often the trust flags of a bundle are right."""
