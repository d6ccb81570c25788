"""Gymnasium vector wrappers around the decoding environment."""
