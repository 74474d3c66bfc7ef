"""Names in plain Latin letters, as banks' files want them: `Nguyễn Đình Chiểu` is `Nguyen Dinh Chieu`."""

import unicodedata

# Letters that Unicode does not take apart into a plain one and a mark.
_STROKES = str.maketrans(
    {
        "đ": "d",
        "Đ": "D",
        "ð": "d",
        "Ð": "D",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "ħ": "h",
        "Ħ": "H",
        "ŧ": "t",
        "Ŧ": "T",
        "ı": "i",
        "ß": "ss",
        "ẞ": "SS",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "þ": "th",
        "Þ": "TH",
    }
)
_MARKS = dict.fromkeys(range(0x0300, 0x0370))
"""Unicode's block of combining marks for Latin, Greek and Cyrillic letters. Marks of other scripts are part of the letter."""


def without_marks(text: str) -> str:
    """A text without accents, horns, dots and strokes; letters of other scripts stay as they are."""
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", text.translate(_STROKES))
    return unicodedata.normalize("NFC", apart.translate(_MARKS))
