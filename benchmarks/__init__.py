"""Measurements of klock beside the tools people would use instead. Run by hand; no test depends on a figure."""
