"""The frozen networks behind a distance, and what they compare samples with."""
