"""Characters nobody sees as themselves: controls, half surrogates, and marks that turn the direction of reading.

A name that holds them can look like another name in a list, a CSV file or a page, or break a line of a log.
"""

import re

BREAKS = "\t\n\r"
"""Controls that sentences of several lines may hold."""

# C0 and C1 controls; U+061C, U+200E/F, U+202A–E and U+2066–9, which turn the direction of reading (Unicode's Bidi_Control);
# the line and paragraph separators; surrogates, which alone are no characters.
_HIDDEN = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ANY = re.compile(f"[{_HIDDEN}]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def hides_something(text: str, *, but: str = "") -> bool:
    """Whether a text holds a character nobody sees. but: characters that are allowed all the same."""
    # Most texts are printable throughout, which Python knows without a search.
    return not text.isprintable() and any(found not in but for found in _ANY.findall(text))


def made_visible(text: str) -> str:
    """Return a text without what nobody sees; half a surrogate pair becomes U+FFFD, so that the gap is seen."""
    if text.isprintable():
        return text
    return _ANY.sub("", _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text))
