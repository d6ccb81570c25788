"""Several processes, started by `accelerate launch`, do one work between them."""
