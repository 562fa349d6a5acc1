"""LiMuSE (arXiv 2111.04063): light multi-modal extraction of a talker from two microphones."""
