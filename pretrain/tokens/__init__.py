"""Tokens of very many images, computed once and read from the disk."""
