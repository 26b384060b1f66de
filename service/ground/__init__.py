"""What every room of the service stands on: errors, metrics, logs, the process. Knows no room."""
