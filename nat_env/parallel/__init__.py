"""Several processes do one work: who they are, how they begin and end, and what they tell."""
