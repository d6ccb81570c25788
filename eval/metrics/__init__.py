"""Sample-quality metrics on a judge's embeddings."""
