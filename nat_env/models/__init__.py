"""Networks of the frozen parts."""
