"""Conda packages: which of them fit together, what is in their archives, and where it goes.

channels   the names and folders of channels, and the lists of packages that they have
solving    the packages that specifications mean: rattler's solver, in a process of its own
archives   `.conda` and `.tar.bz2`, read
layout     the files of a package as they lie in an environment

No program of a package runs here. Formats: the conda enhancement proposals (CEP) and conda-build's documentation.
"""
