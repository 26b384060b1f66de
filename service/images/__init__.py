"""Images: turns files into grey pixels and tiles, and back; reads the headers of requests."""
