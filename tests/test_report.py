from __future__ import annotations

import argparse
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hidden import SHORT, text

from mlx_edgeinf import report
from mlx_edgeinf.measure import kills, picture
from mlx_edgeinf.measure.gap import ROWS
from mlx_edgeinf.measure.learning import BEGINNING, READING, WAYS
from mlx_edgeinf.measure.results import Results, ResultsError, command

SVG = "{http://www.w3.org/2000/svg}"
SETUP = {
    "base_model": "tiny", "config": {}, "command": "python -m it", "machine": "a machine",
    "packages": {"mlx": "0"},
}  # fmt: skip


@pytest.fixture
def evaluated(tmp_path) -> Path:
    """Results of a document that every row has read."""
    setup = SETUP | {"documents": {"A_book.md": ""}, "edges": [16, 26, 56], "rows": ROWS}
    results = Results(tmp_path / "evaluate.json", setup)
    nll = dict.fromkeys(ROWS, 2.5) | {"full attention": 2.0, "sinks + window": 3.0}
    for row in ROWS:
        entry = {"nats": [10 * nll[row], 30 * nll[row]], "tokens": [10, 30], "seconds": 1.0}
        results.add({("A_book.md", row): entry})
    return results.path


@pytest.fixture
def benchmarked(tmp_path) -> Path:
    """Results in which stock grows and ours does not."""
    setup = {"lengths": [2048, 8192, 65536], "stored": [8192], "weights_bytes": 5e8}
    results = Results(tmp_path / "benchmark.json", SETUP | setup)
    for seconds, way in enumerate((READING, BEGINNING, *WAYS), start=1):
        results.add({("training", way): {"tokens": 2052, "peak_bytes": 2e9, "seconds": [float(seconds)]}})
    speeds = {"with": 4.0, "without": 5.0}
    results.add({("recall costs", "read"): speeds, ("recall costs", "8192"): speeds | {"disk_bytes": 1e8}})
    every = (2048, 8192, 65536)
    for name, lengths in (("stock", every[:2]), ("ours", every), ("recall", every)):
        for length in lengths:
            peak = 5e8 + length * 1e5 if name == "stock" else 8e8
            entry = {"peak_bytes": peak, "state_bytes": 1e7, "ttft": length / 100}
            results.add({(name, str(length)): entry | {"prefill": 100, "decode": 5}})
    results.add({("short", "path"): {"tokens": 1024, "identical": True, "speed": 1.0, "seconds": {}}})
    return results.path


def test_a_table_stands_between_its_comments_and_replaces_the_last_one():
    page = "before <!-- evaluate -->\nold\n<!-- /evaluate --> after"
    once = report.insert(page, "evaluate", "new")
    assert once == "before <!-- evaluate -->\nnew\n<!-- /evaluate --> after"
    assert report.insert(once, "evaluate", "new") == once


@pytest.mark.parametrize(
    "page", ["nothing", "<!-- evaluate -->", "<!-- /evaluate --> <!-- evaluate -->", "<!-- benchmark -->"]
)
def test_a_page_without_both_comments_is_refused(page):
    with pytest.raises(report.MarkersMissing, match="<!-- evaluate -->"):
        report.insert(page, "evaluate", "new")


def run(folder: Path) -> int:
    return report.main([
        str(folder / "README.md"), "--results", str(folder), "--trained", str(folder / "trained"),
        "--picture", str(folder / "assets" / "b.svg"),
    ])  # fmt: skip


def test_the_loss_while_gates_were_trained_is_told_as_a_curve(tmp_path):
    (tmp_path / "trained").mkdir()
    measured = {"tokens": 4000, "iteration": 40, "validation": [[0, 3.5], [20, 3.46], [40, 3.45]]}
    record = {**measured, "command": "train", "earlier": [{"validation": [[0, 3.6]]}]}
    (tmp_path / "trained" / "training.json").write_text(json.dumps(record))
    (tmp_path / "README.md").write_text("<!-- curve --><!-- /curve -->")
    assert run(tmp_path) == 0
    page = (tmp_path / "README.md").read_text()
    assert "| 20 | 2,000 | 3.4600 | 0.0400 |" in page and "`train`" in page


@pytest.mark.parametrize(
    "record, words", [("{", "damaged"), ('{"earlier": [], "validation": []}', "no record")]
)
def test_a_training_that_cannot_be_shown_is_said(tmp_path, capsys, record, words):
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "training.json").write_text(record)
    (tmp_path / "README.md").write_text("<!-- curve --><!-- /curve -->")
    assert run(tmp_path) == 1
    assert words in capsys.readouterr().err


def forget(path: Path, *keys: str) -> None:
    """Take entries out of a results file."""
    fields = json.loads(path.read_text())
    group = fields["entries"]
    for key in keys[:-1]:
        group = group[key]
    del group[keys[-1]]
    path.write_text(json.dumps(fields))


def test_both_results_and_the_picture_are_written(tmp_path, evaluated, benchmarked):
    page = "# Title\n<!-- evaluate -->\n<!-- /evaluate -->\n<!-- benchmark -->\n<!-- /benchmark -->\nend\n"
    (tmp_path / "README.md").write_text(page)
    assert run(tmp_path) == 0
    written = (tmp_path / "README.md").read_text()
    assert written.startswith("# Title\n") and written.endswith("\nend\n")
    assert "| memory zeroed | 2.5000 | 0.50" in written and "| A book | 1.000 |" in written
    assert "| 65,536 | ours | 0.80 |" in written and written.count("`python -m it` on a machine") == 2
    assert (tmp_path / "assets" / "b.svg").exists()


def test_facts_of_all_texts_are_reported_in_the_order_of_the_texts(tmp_path):
    for number in (10, 2, 0):
        text(tmp_path / "facts", str(number), (SHORT,), f"python -m it --text {number}")
    (tmp_path / "README.md").write_text("<!-- facts --><!-- /facts -->")
    assert run(tmp_path) == 0
    page = (tmp_path / "README.md").read_text()
    places = [page.index(f"--text {number} --lengths 600`") for number in (0, 2, 10)]
    assert "(n 6)" in page and places == sorted(places)


@pytest.mark.parametrize("name", ("answers", "answers_earlier", "taught"))
def test_tasks_are_reported_in_order_of_their_length(tmp_path, name):
    for task in ("squality", "lines-1000", "lines-200"):
        setup = SETUP | {"task": task, "documents": {"a": ""}, "rows": ["sinks + window"], "exact": []}
        entry = {"tokens": 9, "state_bytes": 8, "questions": [{"depth": None, "log_probability": -1.0}]}
        Results(tmp_path / name / f"{task}.json", setup).add({("a", "sinks + window"): entry})
    (tmp_path / "README.md").write_text(f"<!-- {name} -->\nold\n<!-- /{name} -->")
    assert run(tmp_path) == 0
    written = (tmp_path / "README.md").read_text()
    found = [written.index(f"<b>{task}</b>: 1 document") for task in ("lines-200", "lines-1000", "squality")]
    assert found == sorted(found) and "old" not in written


def test_the_figure_of_the_kill_test_is_a_sentence(tmp_path):
    kills.record(tmp_path, {"reading": 1000, "nothing": 2}, documents=30, reported=5000)
    kills.record(tmp_path, {"reading": 1001, "nothing": 2}, documents=31, reported=5000)
    (tmp_path / "README.md").write_text("<!-- kills -->\nold\n<!-- /kills -->")
    assert run(tmp_path) == 0
    written = (tmp_path / "README.md").read_text()
    assert "Killed 1,003 times while it read 31 documents" in written and "of 5,000 things" in written
    assert "1,001 after a reading was saved" in written and f"`{kills.COMMAND}` on" in written


def test_what_is_not_measured_yet_leaves_its_place_alone(tmp_path, evaluated):
    page = "<!-- evaluate -->\n<!-- /evaluate -->\n<!-- benchmark -->\nold\n<!-- /benchmark -->"
    (tmp_path / "README.md").write_text(page)
    assert run(tmp_path) == 0
    assert "<!-- benchmark -->\nold\n" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "lacking", [("ours", "65536"), ("recall costs", "8192"), ("recall costs", "read"), ("training",)]
)
def test_an_unfinished_benchmark_is_refused(tmp_path, benchmarked, capsys, lacking):
    forget(benchmarked, *lacking)
    (tmp_path / "README.md").write_text("<!-- benchmark -->\n<!-- /benchmark -->")
    assert run(tmp_path) == 1
    assert "not finished" in capsys.readouterr().err and not (tmp_path / "assets").exists()


def test_a_benchmark_of_ours_alone_is_reported(tmp_path, benchmarked):
    forget(benchmarked, "stock")
    (tmp_path / "README.md").write_text("<!-- benchmark -->\n<!-- /benchmark -->")
    assert run(tmp_path) == 0
    assert "| 8,192 | ours | 0.80 |" in (tmp_path / "README.md").read_text()
    assert list(polylines(benchmarked)["ours"][0]) and not polylines(benchmarked)["stock"]


def test_a_page_that_cannot_be_written_stays_as_it_was(tmp_path, evaluated, benchmarked, capsys):
    page = "<!-- evaluate -->\n<!-- /evaluate -->"
    (tmp_path / "README.md").write_text(page)
    assert run(tmp_path) == 1
    assert (tmp_path / "README.md").read_text() == page
    assert "<!-- benchmark -->" in capsys.readouterr().err


# -- the picture ----------------------------------------------------------------


def polylines(path: Path) -> dict[str, list[list[tuple[float, ...]]]]:
    """The lines of each side, panel by panel."""
    lines = {"stock": [], "ours": []}
    for line in ElementTree.fromstring(picture.draw(Results.read(path))).iter(f"{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        lines[line.get("class").split()[1]].append(points)
    return lines


def test_memory_is_flat_in_ours_and_rises_in_stock(benchmarked):
    lines = polylines(benchmarked)
    assert len({y for _, y in lines["ours"][0]}) == 1
    (_, low), (_, high) = lines["stock"][0]
    assert high < low


def test_points_stand_in_proportion_and_inside_the_panels(benchmarked):
    for panel, left in enumerate(picture.LEFTS):
        points = polylines(benchmarked)["ours"][panel]
        assert [round((x - left) / picture.PANEL_WIDTH * 65536, -2) for x, _ in points] == [2000, 8200, 65500]
        assert all(picture.TOP <= y <= picture.BOTTOM for _, y in points)
    (_, short), *_, (_, long) = polylines(benchmarked)["ours"][1]
    assert (picture.BOTTOM - long) / (picture.BOTTOM - short) == pytest.approx(32, rel=0.05)


def test_the_picture_says_its_numbers_to_those_who_cannot_see_it(benchmarked):
    drawn = ElementTree.fromstring(picture.draw(Results.read(benchmarked)))
    assert "ours at 65,536 tokens: 0.80 GB, 655 s." in drawn.findtext(f"{SVG}desc")


@pytest.mark.parametrize("top", [0.011, 0.8, 1.0, 3.9, 12.4, 870.0])
def test_an_axis_ends_just_above_the_highest_point(top):
    end = picture._ceiling({"ours": [(1.0, top)], "stock": [(1.0, top / 2)]})
    assert top <= end <= 1.6 * top
    assert float(f"{end / picture.TICKS:.2g}") == pytest.approx(end / picture.TICKS)


# -- results files --------------------------------------------------------------


def test_results_go_on_where_they_were(tmp_path):
    path = tmp_path / "deep" / "retention.json"
    Results.resume(path, SETUP).add({("book", "ours"): 1, ("other", "ours"): 2})
    again = Results.resume(path, SETUP)
    assert again.has("book", "ours") and again.has("other", "ours") and not again.has("book", "theirs")


def test_what_two_processes_measure_stands_in_one_file(tmp_path):
    one, other = (Results.resume(tmp_path / "retention.json", SETUP) for _ in range(2))
    one.add({("book", "ours"): 1})
    other.add({("book", "theirs"): 2, ("film", "ours"): 3})
    assert other.entries == {"book": {"ours": 1, "theirs": 2}, "film": {"ours": 3}}
    assert not one.has("film", "ours")
    one.refresh()
    assert one.entries == other.entries == Results.read(one.path).entries


def test_a_command_is_told_as_it_is_typed_without_folders_of_this_machine(tmp_path):
    options = {
        "measurement": "answers", "data": tmp_path / "dev", "model": str(tmp_path), "adapter_path": None,
        "rouge": True, "quiet": False, "rows": ["ours", "sinks + window"], "length": 9, "output": tmp_path,
    }  # fmt: skip
    told = command("evaluate", argparse.Namespace(**options))
    assert told == (
        f"python -m mlx_edgeinf.evaluate answers --data dev --model {tmp_path.name} --rouge "
        "--rows ours 'sinks + window' --length 9"
    )
    assert command("benchmark", argparse.Namespace(length=9)) == "python -m mlx_edgeinf.benchmark --length 9"


def test_results_of_another_setup_are_refused_by_name(tmp_path):
    Results.resume(tmp_path / "retention.json", SETUP).add({("book", "ours"): 1})
    with pytest.raises(ResultsError, match="another setup .machine.:"):
        Results.resume(tmp_path / "retention.json", SETUP | {"machine": "another"})


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"setup": {}})])
def test_a_file_that_holds_something_else_is_not_overwritten(tmp_path, text):
    (tmp_path / "retention.json").write_text(text)
    with pytest.raises(ResultsError, match="not a results file"):
        Results.resume(tmp_path / "retention.json", SETUP)


def test_results_that_are_not_there_are_missed_in_a_sentence(tmp_path):
    with pytest.raises(ResultsError, match="measure first"):
        Results.read(tmp_path / "retention.json")
