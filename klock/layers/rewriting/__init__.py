"""Files that hold the time they were written, or another accident: rewritten, so that equal steps give equal bytes.

One module for each format. Which files they are for is said in `klock.layers.normalisation`.
"""
