"""A lockfile beside what upstream has today: asked within a time limit, several at once, and remembered for minutes.

outdated     which packages, Debian packages and bases have newer versions
moved        where upstream no longer says what is locked
advisories   which locked packages have known vulnerabilities
"""
