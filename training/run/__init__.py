"""One run: its folder, state, start, checks beforehand, and what its checkpoint says."""
