"""What a lockfile holds, as people ask about it: two lockfiles compared, one package explained, all of it as a tree.

holdings   everything that a target holds, in parts, each with the step that brings it
changes    two lockfiles as the list of parts that differ
reasons    why a package, a file or a variable is there
trees      steps and what they bring, the packages below those that ask for them
"""
