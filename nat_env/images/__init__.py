"""Image files: which a folder has, their pixels, and reading them while something else works."""
