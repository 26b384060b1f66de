"""Comparison of several systems under one budget of training: plan, runs, record and report."""
