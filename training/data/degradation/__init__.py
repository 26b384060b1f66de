"""HR to synthetic LR, the noise of images, and what a coarse scan can show."""
