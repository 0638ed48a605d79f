from __future__ import annotations

import xml.etree.ElementTree as ET

import fakes

from mlx_edgeinf.ui.meter import context_meter


def shown(page: int) -> tuple[str, dict[str, str]]:
    """The words of the meter, and what its bar is drawn from."""
    figure = ET.fromstring(context_meter(fakes.stats(page, 40)))
    return " ".join("".join(figure.find("figcaption").itertext()).split()), figure.find("meter").attrib


def test_the_meter_says_what_is_exact_and_what_is_in_memory():
    words, bar = shown(10)
    assert words == "1,028 of 1,028 tokens word for word 3,572 older tokens in memory, as a gist"
    assert (bar["value"], bar["max"]) == ("1028", "1028") and bar["aria-label"]


def test_what_fits_is_not_said_to_be_in_memory():
    words, bar = shown(1)
    assert words.startswith("460 of 1,028 tokens") and "nothing had to go into memory" in words
    assert (bar["value"], bar["max"]) == ("460", "1028")
