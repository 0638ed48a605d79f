"""Characters as a reader means them, whatever the font called them."""

from __future__ import annotations

import re
import unicodedata

HYPHEN = "\x02"
"""How PDFium marks a hyphen at the end of a line; it stays until the lines are joined."""

SOFT_HYPHEN = "\u00ad"
FONT_CODE_SHARE = 0.1
ORNAMENT_LENGTH = 8

COMPATIBLE = re.compile(
    "["
    "\ufb00-\ufb06\ufb13-\ufb17"  # ligatures
    "\ufb50-\ufdfb\ufe70-\ufefc"  # Arabic letters as they are written within a word
    "\u2e9f\u2ef3\u2f00-\u2fd5"  # radicals that stand for the Chinese character
    "\U0001d400-\U0001d7ff"  # letters and digits of mathematical alphabets
    "]+"
)
DIAERESIS = re.compile("\u00a8([aeiouyAEIOU\u0131])")
SYMBOL_BULLETS = re.compile("[\uf0b7\uf0a7\uf0d8\uf0fc]")
CONTROLS = re.compile(r"[\x00\x01\x03-\x08\x0e-\x1f\x7f-\x9f]")
UNSEEN = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # marks of layout
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use: a font's own pictures
    "\ud800-\udfff\ufff0-\ufffc\ufffe\uffff]"
)
LEADERS = re.compile("[._\u2026\u00b7](?: ?[._\u2026\u00b7]){4,} ?")


def readable(text: str) -> str:
    """Return one line with plain letters and single spaces, without unseen characters.

    Rows of dots that lead to a page number shrink to three, and a line that is ornament only
    becomes empty. A hyphen mark stays.
    """
    if not text.isascii():
        text = plain_letters(text)
    text = " ".join(CONTROLS.sub("", text).split())
    text = LEADERS.sub("... ", text).strip()
    return "" if is_ornament(text) else text


def plain_letters(text: str) -> str:
    """Spell out what the font wrote in one sign, and drop what cannot be seen.

    Ligatures, forms of Arabic letters, radicals and mathematical letters become the letters
    they stand for; other compatibility characters (10², ½, full-width forms) carry meaning
    and stay. A soft hyphen at the end becomes the hyphen mark.
    """
    if text.rstrip().endswith(SOFT_HYPHEN):
        text = text.rstrip()[:-1] + HYPHEN
    text = SYMBOL_BULLETS.sub("•", text)
    text = UNSEEN.sub("", text)
    text = COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return DIAERESIS.sub(lambda match: with_diaeresis(match[1]), text)


def with_diaeresis(vowel: str) -> str:
    """Put the diaeresis on the vowel that old TeX fonts print it before."""
    plain = vowel.replace("\u0131", "i")
    return unicodedata.normalize("NFC", plain + "\u0308")


def is_ornament(text: str) -> bool:
    """Whether a line is a row of symbols, such as the bars on a book's half-title."""
    marks = text.replace(" ", "")
    return len(marks) >= ORNAMENT_LENGTH and all(map(is_symbol, marks))


def is_symbol(mark: str) -> bool:
    """Whether a character is neither letter, digit, punctuation nor a sign of mathematics."""
    return unicodedata.category(mark) == "So"


def is_font_code(text: str) -> bool:
    """Whether a page's text is a font's own codes: over a tenth of it is no character at all."""
    return len(CONTROLS.findall(text)) > FONT_CODE_SHARE * len(text)
