"""Self-supervised training of a WavLM encoder: masked prediction of units."""
