"""The quickest answer: what `klock sync` or `klock check` found last still holds, as nothing it looked at changed.

    watching      while a command runs: which files it reads, and whether it does what no stat can vouch for
    remembering   when it found that all agree: a note of the stat of every file and folder behind that
    asking        of an environment that is an image of podman or docker: whether it is still the one of that name
    note          at the next such command: if each stat is the same, the answer is the same

`note` is read before anything else of klock is imported. Without a note, or with one that no longer holds, the command
does all of its work; that the answers are equal is what the tests of this package are about. The image file, its
lockfile and other short files are read again, so that a checkout that writes them anew changes nothing. Of all else the
stat counts, which is no proof: what is not noticed is a change that keeps a file's inode, size, mtime and ctime (a
write through an old mmap, a clock that was set back). `klock check --deep` reads every file.
"""
