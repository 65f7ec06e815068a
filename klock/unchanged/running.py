"""Which command lines of `klock run` may have a note: its answer is how the command starts.

What starts it is text of the environment's place (`klock.places.protocol.Place.launch`). The command's own words do not
count, so the note is that of the words before it.
"""

__all__ = ["options_of"]

_FLAGS = ("--no-sync", "--offline", "-q", "--quiet")
_VALUES = ("--engine", "--image", "--mount", "--network", "--target", "--workdir", "-m", "-w")


def options_of(arguments: list[str]) -> list[str] | None:
    """The words of a command line of `klock run` before the command; None for one that is not known to be plain."""
    at = 1
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            at += 1
            break
        if word in _FLAGS or (word.startswith("--") and "=" in word and word.partition("=")[0] in _VALUES):
            at += 1
        elif word in _VALUES:
            at += 2
        elif word.startswith("-"):
            return None
        else:
            break
    return arguments[:at] if at < len(arguments) else None
