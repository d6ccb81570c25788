"""Training of the tokenizer: losses, codes, discriminator."""
