"""The toy system: its weights, and what makes them."""
