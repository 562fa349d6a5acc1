"""What users wait for, measured against the plain way of doing it, in one run: `python -m benchmarks.NAME --help`."""
