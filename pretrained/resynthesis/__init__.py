"""A toy of speech resynthesis: units, F0 and voice, trained on synthetic voices."""
