"""What a recipe can say: its sections, their defaults and what is wrong with one; no torch."""
