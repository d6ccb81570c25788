"""What a frozen model has to be, and how decoding uses it."""
