"""The scalable discrete vocoder: a HiFi-GAN that reads tokens (arXiv 2406.10735)."""
