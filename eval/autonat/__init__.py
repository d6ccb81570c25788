"""AutoNAT's alternation and its ablations, on small models trained here."""
