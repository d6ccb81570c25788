"""How things are measured: by turns, by phase, in multiply-adds, in memory; and how it is shown."""
