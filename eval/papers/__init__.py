"""The tables of the papers, each row a command for whoever has the weights."""
