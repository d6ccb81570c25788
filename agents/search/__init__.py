"""Schedules that all samples share, by search: nat-search."""
