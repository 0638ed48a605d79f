"""The child process that reads one PDF, so that a hostile file costs this process only.

Run by path, as `python pdf_worker.py` with a socket as standard input: importing the package
would load what the rest of the program needs. Speaks JSON lines. It is asked once, with
`path`, `password`, `first` (pages to skip) and `memory` (bytes), and answers
`{"pages": n}` or `{"error": code}`, then for each page `{"lines": [[text, left, bottom,
right, top], ...]}`, where null stands for a page that cannot be opened.
"""

from __future__ import annotations

import json
import math
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from statistics import median_low as median
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

WATCH_SECONDS = 0.2
HYPHEN = "\x02"
LINE_ENDS = {"\r", "\n", HYPHEN}
QUARTER_TURN = math.pi / 2

Box = tuple[float, float, float, float]


def main() -> None:
    """Answer the one request that comes through standard input."""
    with socket.socket(fileno=0) as channel, channel.makefile("rw", encoding="ascii") as stream:
        request = json.loads(stream.readline())
        limit_memory(request["memory"])
        for answer in answers(request["path"], request["password"], request["first"]):
            stream.write(json.dumps(answer) + "\n")
            stream.flush()


def limit_memory(limit: int) -> None:
    """Bound this process: by the kernel where it obeys, by a watching thread everywhere."""
    # macOS refuses a limit below what it has already mapped.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    threading.Thread(target=watch, args=(limit, os.getppid()), daemon=True).start()


def watch(limit: int, parent: int) -> None:
    """End this process when it has grown beyond `limit` bytes or its parent is gone."""
    while os.getppid() == parent and memory_held() < limit:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def memory_held() -> int:
    """The memory this process holds, in bytes; at its peak where only that is told."""
    if sys.platform == "linux":
        # Not rusage: its peak survives fork and exec, so a parent with a large model would
        # make every child look too large from its start.
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def answers(path: str, password: str | None, first: int) -> Iterator[dict[str, Any]]:
    """Yield the page count, then the lines of each page from `first` on; or one error code."""
    try:
        document = pypdfium2.PdfDocument(path, password=password)
    except pypdfium2.PdfiumError as error:
        yield {"error": error.err_code}
        return
    yield {"pages": len(document)}
    for index in range(first, len(document)):
        yield {"lines": page_lines(document, index)}


def page_lines(document: pypdfium2.PdfDocument, index: int) -> list[tuple[Any, ...]] | None:
    """The lines of one page, or None where PDFium cannot open it."""
    try:
        page = document[index]
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError:
        return None
    lines = list(split_lines(text_page.raw, page.get_bbox()))
    text_page.close()
    page.close()
    return lines


def split_lines(text_page: Any, visible: Box) -> Iterator[tuple[Any, ...]]:
    """Yield text and box of each line in PDFium's order, without printer's marks off the page."""
    text: list[str] = []
    boxes: list[Box] = []
    angle = 0.0
    for index in range(pdfium.FPDFText_CountChars(text_page)):
        character = chr(pdfium.FPDFText_GetUnicode(text_page, index))
        if character in LINE_ENDS:
            yield from line([*text, character], boxes, angle)
            text, boxes = [], []
        elif character.isspace():
            text.append(character)
        elif inside(box := box_of(text_page, index), visible):
            angle = angle if boxes else pdfium.FPDFText_GetCharAngle(text_page, index)
            text.append(character)
            boxes.append(box)
    yield from line(text, boxes, angle)


def line(text: list[str], boxes: list[Box], angle: float) -> Iterator[tuple[Any, ...]]:
    """Yield the line these boxes make up, if any; a raised character does not raise the line."""
    if boxes:
        lefts, bottoms, rights, tops = zip(*(upright(box, angle) for box in boxes))
        edges = min(lefts), median(bottoms), max(rights), median(tops)
        yield "".join(text), *(round(edge, 1) for edge in edges)


def box_of(text_page: Any, index: int) -> Box:
    """The box of one character, as high as its font and not as its own shape."""
    rectangle = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text_page, index, rectangle)
    return rectangle.left, rectangle.bottom, rectangle.right, rectangle.top


def inside(box: Box, visible: Box) -> bool:
    """Whether the middle of `box` lies in `visible`."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return visible[0] <= x <= visible[2] and visible[1] <= y <= visible[3]


def upright(box: Box, angle: float) -> Box:
    """Turn the box of text written at `angle`, clockwise, so that its line runs to the right."""
    left, bottom, right, top = box
    for _ in range(round(-angle / QUARTER_TURN) % 4):
        left, bottom, right, top = bottom, -right, top, -left
    return left, bottom, right, top


if __name__ == "__main__":
    main()
