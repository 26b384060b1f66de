"""napari plugin: super-resolves image layers with the semsr service or on this machine."""
