"""Training and run-time machinery that has never heard of speech."""
