"""Command-line tools that turn public corpora, or synthetic voices, into the lists that training and inference read."""
