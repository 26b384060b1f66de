"""Registration of LR and HR pictures of the same places: shifts, pairs, refused pairs."""
