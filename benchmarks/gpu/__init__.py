"""Everything that a GPU is for, on one card, in one command: first that it is right, then that it is fast."""
