"""Learning decoding policies with stable-baselines3 and sb3-contrib."""
