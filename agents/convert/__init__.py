"""Run folders from policies of others."""
