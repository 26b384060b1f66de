"""Structure that the training images lack: planted defects and foreign patches."""
