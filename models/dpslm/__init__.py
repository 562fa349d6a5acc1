"""DP-SLM: units that pay for every change, a language model of units, and their way back to speech."""
