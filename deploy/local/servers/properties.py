"""Write values into Java's `.properties` files. Pure.

Java reads such a file as Latin-1 and takes a backslash for the beginning of an escape: a path with an umlaut would be
another path, and its data be written beside the stack's folder. Source: java.util.Properties, `load` and `store`.
"""

_NAMED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}
_DELIMITERS = frozenset("=:#!")


def escaped(value: object) -> str:
    """Return what stands for a value's text, in ASCII."""
    text = str(value)
    return "".join(_escaped(sign, leading=not text[:place].strip(" ")) for place, sign in enumerate(text))


def _escaped(sign: str, *, leading: bool) -> str:
    if sign in _NAMED:
        return _NAMED[sign]
    if sign in _DELIMITERS or (sign == " " and leading):
        return f"\\{sign}"
    if " " <= sign <= "~":
        return sign
    units = sign.encode("utf-16-be")  # two of them for what lies beyond the first plane
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
