"""Metrics: pure functions on predictions and references."""
