"""Foundations of all of training: progress, whole files, image quality; knows no other room."""
