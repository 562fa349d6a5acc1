"""Numbers for a folder of extracted files: metrics, their means and intervals, and a page to look at and listen to."""
