"""Making a bundle: data, tokenizer, transformer, judge."""
