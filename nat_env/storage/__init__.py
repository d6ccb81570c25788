"""What is written to disk: files whole or not at all, state without pickle."""
