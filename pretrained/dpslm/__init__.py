"""The toy of DP-SLM, and how it is made and measured."""
