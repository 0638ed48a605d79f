"""The page that a link leads to, its passage marked: its picture where that can be drawn, else its text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from ..documents import DocumentError, Page, PasswordRequired
from ..documents.picture import Mark, Picture, is_pdf, page_picture
from ..library import LibraryError
from ..support import Passage, sentences
from .links import Leaf

if TYPE_CHECKING:
    from .room import Room
    from .session import Session

LOCKED = "Its file is protected and the password is not kept: here is the text of the page."


def turn_to(room: Room, session: Session, link: str) -> None:
    """Show the page of a link; nothing for a link that the page does not have (any more)."""
    if session.links is None or not link.isdecimal() or int(link) >= len(session.links.passages):
        return
    passage = session.links.passages[int(link)]
    page = session.document.pages[passage.page]
    picture, problem = None, ""
    try:
        picture = _picture(room, session, page, passage)
    except PasswordRequired:
        problem = LOCKED
    except (DocumentError, LibraryError) as error:
        problem = str(error)
    except OSError as error:
        problem = f"The file in the library is gone ({error.strerror}): here is the text of the page."
    session.leaf = Leaf(session.entry.name, int(link), page, passage, picture, problem)


def leaf(shown: Leaf | None) -> str:
    """The page as a dialog, which page.js opens; empty for none."""
    if shown is None:
        return ""
    problem = f'<p class="problem" role="alert">{escape(shown.problem)}</p>' if shown.problem else ""
    return f"""<dialog class="leaf" data-link="{shown.link}" aria-labelledby="leaf-title">
<header>
<h2 id="leaf-title">Page {escape(shown.page.place)}</h2>
<button type="button" class="quiet" data-do="leave">Close</button>
</header>
<p class="of">{escape(shown.name)}</p>
{problem}
{_printed(shown) if shown.picture else _text(shown)}
</dialog>"""


def _picture(room: Room, session: Session, page: Page, passage: Passage) -> Picture | None:
    """The page as it is printed; None for a document of another kind, or without its file."""
    original = room.library.original(session.entry.id)
    if original is None or page.origin or not is_pdf(original):
        return None
    quoted = page.text[passage.start : passage.end]
    pieces = [quoted[start:end] for start, end in sentences(quoted)]
    return page_picture(original, session.entry.name, page.number, pieces)


def _printed(shown: Leaf) -> str:
    """The picture with its marks, and the passage, or else the page, in words for those who cannot see it."""
    picture, quoted = shown.picture, shown.page.text[shown.passage.start : shown.passage.end]
    return f"""<figure>
<div class="printed" tabindex="0"><div>
<img src="data:image/jpeg;base64,{picture.jpeg}" width="{picture.width}" height="{picture.height}"
 alt="Page {escape(shown.page.place)} as it is printed">
{_marks(picture.marks)}
</div></div>
<figcaption>{escape(quoted or shown.page.text)}</figcaption>
</figure>"""


def _marks(marks: Sequence[Mark]) -> str:
    return "".join(
        f'<span class="mark" style="left:{mark.left:.2%};top:{mark.top:.2%};'
        f'width:{mark.right - mark.left:.2%};height:{mark.bottom - mark.top:.2%}"></span>'
        for mark in marks
    )


def _text(shown: Leaf) -> str:
    text, (_, start, end, _) = shown.page.text, shown.passage
    return (
        f'<div class="written" tabindex="0">{escape(text[:start])}<mark>{escape(text[start:end])}</mark>'
        f"{escape(text[end:])}</div>"
    )
