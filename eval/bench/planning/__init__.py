"""What a training takes past the machine at hand: arithmetic, from what was measured on it."""
