"""One training in several processes, each with its rows of the same vector environment."""
