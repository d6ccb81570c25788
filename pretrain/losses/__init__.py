"""What a tokenizer is trained against beside pixels: frozen features, a discriminator."""
