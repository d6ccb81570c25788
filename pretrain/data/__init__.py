"""Data sets that a bundle is made of."""
