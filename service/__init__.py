"""The server: HTTP bytes in, super-resolved HTTP bytes out. No torch anywhere below this folder."""
