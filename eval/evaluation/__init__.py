"""Policies evaluated: distances, floors, rows, tables, verdicts."""
