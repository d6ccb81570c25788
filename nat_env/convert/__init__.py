"""Bundles from files of other formats."""
