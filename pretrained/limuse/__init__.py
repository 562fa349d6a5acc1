"""A toy of LiMuSE, and how it is made."""
