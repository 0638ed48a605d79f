from __future__ import annotations

from mlx_edgeinf.adapter import AdapterConfig
from mlx_edgeinf.training.card import write_card

CONFIG = AdapterConfig("a {small} model", "0123456789abcdef", features=64, window=256)
RUN = {
    "documents": 120, "data": "classics", "length": 4096, "iteration": 300, "tokens": 1_228_800,
    "seconds": 5400.0, "peak_bytes": 1_440_000_000, "validation": [[0, 3.21], [300, 3.1]],
    "command": "python -m mlx_edgeinf.finetune --train --data {classics} --iters 300",
}  # fmt: skip
SECOND = RUN | {"data": "letters", "validation": [], "command": "mlx.launch -n 2 --train --data letters"}


def rows(card: str) -> list[list[str]]:
    """The cells of the table of runs."""
    lines = card.partition("| run |")[2].splitlines()[2:]
    table = lines[: lines.index("")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def card(*runs: dict) -> str:
    return write_card(CONFIG, 0.00123, list(runs), "2 cores")


def test_the_card_names_the_gates_and_the_model():
    text = card(RUN)
    assert text.startswith("# Memory gates for a {small} model\n")
    for fact in ("0.123%", "centroids, 64 per kv head", "4 sinks, window 256, segment 512 tokens",
                 "`0123456789abcdef`", "Machine: 2 cores."):  # fmt: skip
        assert fact in text, fact


def test_every_run_has_a_row_and_a_command():
    text = card(RUN, SECOND)
    first, second = rows(text)
    assert first == [
        "1", "120 documents (classics)", "4096 tokens", "300", "1,228,800", "90 min", "1.4 GB",
        "3.2100 (iteration 0), 3.1000 (iteration 300)",
    ]  # fmt: skip
    assert second[:2] == ["2", "120 documents (letters)"] and len(first) == len(second)
    commands = [line for line in text.splitlines() if line.startswith("    ")]
    assert commands == [f"    {run['command']}" for run in (RUN, SECOND)]


def test_a_loss_that_was_not_measured_is_said_to_be_so():
    assert rows(card(SECOND))[0][-1] == "not measured"
