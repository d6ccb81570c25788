"""Prompts: files of captions, text encoders, and tables of conditions made of them."""
