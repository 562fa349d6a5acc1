"""Systems that come with the project, how each was made, and a demonstration of them."""
