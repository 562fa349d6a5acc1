"""K-means codebooks of an encoder's layers, fitted in batches: what the tokens of this project are indices into."""
