"""The report: JSON, HTML, tables for the terminal, pictures."""
