"""A lockfile beside what upstream has today: asked within a time limit, several at once, and remembered for minutes.

outdated     which packages, Debian packages and bases have newer versions
"""
