"""Bundles: what is frozen, in a folder."""
