"""What embeddings of samples say beside those of real images."""
