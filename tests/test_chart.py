from __future__ import annotations

import xml.etree.ElementTree as ET

import fakes
import pytest

from mlx_edgeinf.ui import chart


def history(pages: int = 40):
    return [fakes.stats(page, pages) for page in range(1, pages + 1)]


def lines(svg: ET.Element) -> dict[str, list[tuple[float, float]]]:
    return {
        group.get("class"): [
            tuple(map(float, point.split(","))) for point in group.find("polyline").get("points").split()
        ]
        for group in svg.iter("g")
    }


def figure(stats) -> ET.Element:
    return ET.fromstring(chart.memory_chart(stats))


def test_the_measured_line_is_flat_where_the_full_cache_rises():
    drawn = lines(figure(history()))
    full_state = 1 + fakes.STATE_BYTES // (fakes.KV_BYTES_PER_TOKEN * fakes.TOKENS_PER_PAGE)
    heights = {y for _, y in drawn["measured"][full_state:]}
    assert len(heights) == 1
    rising = [y for _, y in drawn["full"]]
    assert rising == sorted(rising, reverse=True) and rising[-1] < rising[0] - 50
    assert drawn["full"][0] == drawn["measured"][0]


def test_what_is_ahead_reaches_the_end_of_the_document():
    drawn = lines(figure(history(40)[:10]))
    assert drawn["ahead"][0] == drawn["full"][-1]
    assert drawn["ahead"][1][0] == chart.RIGHT
    assert drawn["ahead"][1] == lines(figure(history(40)))["full"][-1]


def test_every_point_lies_in_the_picture():
    for points in lines(figure(history())).values():
        for x, y in points:
            assert chart.LEFT <= x <= chart.RIGHT and chart.TOP <= y <= chart.BOTTOM


def test_a_single_measurement_can_be_seen():
    dots = {group.get("class"): group.find("circle") for group in figure(history(1)).iter("g")}
    assert float(dots["measured"].get("cx")) == chart.RIGHT
    assert float(dots["measured"].get("cy")) > chart.TOP


def test_the_chart_can_be_read_without_seeing_it():
    svg = figure(history(40)[:10]).find("svg")
    named = {svg.find(tag).get("id") for tag in ("title", "desc")}
    assert svg.get("role") == "img" and set(svg.get("aria-labelledby").split()) == named
    assert svg.find("desc").text.startswith("After page 10 of 40, 218 MB are in use")
    assert "script" not in chart.memory_chart(history())


@pytest.mark.parametrize("top", [1, 37, 999, 48e6, 5.0e8, 1.01e9, 3.7e12])
def test_ticks_are_few_and_reach_the_top(top):
    ticks = chart.tick_values(top)
    assert ticks[0] == 0 and 3 <= len(ticks) <= chart.MOST_STEPS + 1
    assert ticks[-1] >= top > ticks[-2]


@pytest.mark.parametrize("length", [1, 2, 149, 150, 151, 5000])
def test_a_long_reading_is_thinned_but_keeps_its_ends(length):
    whole = list(range(length))
    few = chart.thinned(whole)
    assert few[0] == 0 and few[-1] == length - 1
    assert len(few) == len(set(few)) <= chart.MOST_POINTS + 1
