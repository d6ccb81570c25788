"""Policies for others: nat-share."""
