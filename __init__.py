"""Structural pruning as type inference."""
