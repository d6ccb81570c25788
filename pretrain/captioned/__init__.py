"""Making a bundle of prompts: images with captions, several versions of each, all models."""
