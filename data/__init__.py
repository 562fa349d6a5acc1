"""From files to batches: audio, lists, speaker indices, mixing, datasets, loaders and corpus preparation."""
