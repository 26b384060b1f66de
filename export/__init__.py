"""Checkpoint to bundle. Kept empty of imports: the service reads `export.bundle` without torch."""
