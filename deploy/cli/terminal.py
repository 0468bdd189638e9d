"""Write to whatever the standard output can take: a terminal in ASCII or Latin-1, a pipe, a log."""

import codecs
import io
import sys
from collections.abc import Mapping

_HANDLER = "pipeline.plain"
_BRAILLE = range(0x2800, 0x2900)
"""What rich's spinner turns with."""
_PLAIN: Mapping[str, str] = {
    **dict.fromkeys("█▉▊▋▌", "#"),
    **dict.fromkeys("▍▎▏", "|"),
    **dict.fromkeys("━╸╺─", "-"),
    **dict.fromkeys(map(chr, _BRAILLE), "*"),
    "…": "...",
}


def take_any_text() -> None:
    r"""Have both standard streams replace what their encoding lacks, instead of ending the command that prints it.

    Drawings become ASCII; any other character its escape (`caf\xe9`), which still sets a name apart from others.
    Bytes of a path that are no text are escaped too.
    """
    codecs.register_error(_HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or _escaped(each) for each in lacking), error.end


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")
