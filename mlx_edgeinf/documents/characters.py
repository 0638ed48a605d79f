"""Characters as a reader means them, whatever the font called them."""

from __future__ import annotations

import re
import unicodedata

HYPHEN = "\x02"
"""How PDFium marks a hyphen at the end of a line; it stays until the lines are joined."""

FONT_CODE_SHARE = 0.1
ORNAMENT_LENGTH = 8

LIGATURES = re.compile("[\ufb00-\ufb06\ufb13-\ufb17]+")
ARABIC_FORMS = re.compile("[\ufb50-\ufdfb\ufe70-\ufefc]+")
RADICALS = re.compile("[\u2e9f\u2ef3\u2f00-\u2fd5]+")
MATHS_LETTERS = re.compile("[\U0001d400-\U0001d7ff]+")
COMPATIBLE = re.compile(
    "|".join(each.pattern for each in (LIGATURES, ARABIC_FORMS, RADICALS, MATHS_LETTERS))
)
DIAERESIS = re.compile("\u00a8([aeiouyAEIOU\u0131])")
SYMBOL_BULLETS = re.compile("[\uf0b7\uf0a7\uf0d8\uf0fc]")
SPACES = re.compile(r"\s+")
LEADERS = re.compile(r"(?:\s*[._\u2026\u00b7]){5,}")
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
UNSEEN = re.compile(
    r"[\x00\x01\x03-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ud800-\udfff\ue000-\uf8ff\ufeff\ufff0-\ufffc\ufffe\uffff\U000f0000-\U0010ffff]"
)


def readable(text: str) -> str:
    """Return one line with plain letters and single spaces, without unseen characters.

    Ligatures, presentation forms of Arabic, radicals and mathematical letters become the
    letters they stand for; other compatibility characters (10², ½, full-width forms) carry
    meaning and stay. A soft hyphen at the end becomes the hyphen mark. Rows of dots that
    lead to a page number shrink to three, and lines that are ornament only become empty.
    """
    text = re.sub("\u00ad\\s*$", HYPHEN, text)
    text = SYMBOL_BULLETS.sub("•", text)
    text = UNSEEN.sub("", text)
    text = COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = DIAERESIS.sub(lambda match: with_diaeresis(match[1]), text)
    text = LEADERS.sub(" ... ", text)
    text = SPACES.sub(" ", text).strip()
    return "" if is_ornament(text) else text


def with_diaeresis(vowel: str) -> str:
    """Put the diaeresis on the vowel that old TeX fonts print it before."""
    plain = vowel.replace("\u0131", "i")
    return unicodedata.normalize("NFC", plain + "\u0308")


def is_ornament(text: str) -> bool:
    """Whether a line is a row of symbols, such as the bars on a book's half-title."""
    marks = text.replace(" ", "")
    symbols = all(unicodedata.category(mark) == "So" for mark in marks)
    return symbols and len(marks) >= ORNAMENT_LENGTH


def is_font_code(text: str) -> bool:
    """Whether a page's text is a font's own codes: over a tenth of it is no character at all."""
    return len(CONTROLS.findall(text)) > FONT_CODE_SHARE * len(text)
