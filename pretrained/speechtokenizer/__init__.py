"""The toy SpeechTokenizer: how it was made, and how well it does."""
