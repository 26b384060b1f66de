"""Evaluation of a bundle's trust flags: detected failures and false alarms."""
