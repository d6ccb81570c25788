"""Evaluation: judges, tables, pictures, and the commands that print and draw them."""
