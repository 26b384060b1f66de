"""The ground floor of the service: errors, metrics, logs, the process. Imports no room."""
