"""Two models side by side on the same tiles; start with `report.py`, which lists what is found."""
