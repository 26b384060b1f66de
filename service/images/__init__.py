"""Images: files to grey pixels, pixels to tiles, and back; what a request says of them."""
