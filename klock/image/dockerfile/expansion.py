"""Variables in a Dockerfile's words, as BuildKit expands them: `$x`, `${x:-default}`, `${x#pattern}`, quotes, escapes.

What is not set is empty. Words of a Dockerfile are kept as written until they are expanded, because a variable may be
one of the base image's.
"""

from __future__ import annotations

from collections.abc import Mapping

from klock.errors import ImageError
from klock.values import dataclass

__all__ = ["Expansion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """`escape` is the Dockerfile's escape character, `variables` what is set at that point."""

    escape: str
    variables: Mapping[str, str]

    def word(self, text: str) -> str:
        """One word, without its quotes; white space in a variable stays. Raises ImageError."""
        return self._lexed(text, quotes=True)[0]

    def words(self, text: str) -> list[str]:
        """The words that a text becomes: none for an unset variable, several for one with white space in it."""
        return self._lexed(text, quotes=True)[1]

    def text(self, text: str) -> str:
        """The lines of a heredoc, in which quotes are only characters, and the backslash escapes in any Dockerfile."""
        return Expansion(escape="\\", variables=self.variables)._lexed(text, quotes=False)[0]

    def _lexed(self, text: str, *, quotes: bool) -> tuple[str, list[str]]:
        # Only who reads a Dockerfile needs it.
        from e2b_dockerfile_utils import ShellLex

        lexer = ShellLex(self.escape, skip_process_quotes=not quotes, env=self.variables, skip_unset_env=False)
        try:
            return lexer.process_word(text), lexer.process_words(text)
        except (ValueError, RecursionError) as error:
            reason = str(error).removeprefix(f"failed to process {text!r}: ").removeprefix("syntax error: ")
            raise ImageError(f"cannot expand {text.strip()[:60]!r}: {reason}", hint=_way_out(reason)) from error


def _way_out(reason: str) -> str:
    if "quote" in reason:
        return "close it, or write \\ before a quote that is part of the text"
    return "close the variable: ${NAME}" if "'}'" in reason else "fix its variables"
