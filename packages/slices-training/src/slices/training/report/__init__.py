"""What a run leaves to be looked at: one page, and its figures."""
