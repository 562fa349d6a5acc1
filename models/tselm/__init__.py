"""TSELM: target speaker extraction using discrete tokens (Tang, Zeng and Li, ICASSP 2025, arXiv 2409.07841)."""
