"""What all of training stands on: progress, whole files, image quality; knows no other room."""
