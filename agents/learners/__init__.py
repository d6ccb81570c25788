"""What learns: policies, algorithms by name, buffers, the adapter to stable-baselines3."""
