"""SpeechTokenizer: a codec whose first codebook carries what is said (arXiv 2308.16692)."""
