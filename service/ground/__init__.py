"""Common parts of the service: errors, metrics, logs. Imports no other package of `service`."""
