"""A page on this machine to try the systems on one's own recordings; ``serve.py`` opens it."""
