"""A run's folder: its configuration, its checkpoints, its policies."""
