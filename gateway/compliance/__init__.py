"""Compliance rules: what a plant promised itself, and where it did not keep it."""
