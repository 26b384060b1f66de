"""Planted defects and foreign patches, which add structure that the training images lack."""
