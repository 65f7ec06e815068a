"""What a project allows to be locked: sources, the age and licences of packages, ways of being made, signatures.

rules      the settings, as a value
licences   SPDX expressions, and what older metadata says instead
facts      when a file came to its index, and its licence: asked once, and kept
checking   a lockfile beside the rules: each breach is a finding
"""
