from __future__ import annotations

from tiny import book

from mlx_edgeinf.events import Finished
from mlx_edgeinf.models import load, settings_of
from mlx_edgeinf.settings import Settings
from mlx_edgeinf.summarize import summarize


def test_an_engine_knows_what_it_reads_and_writes_with(engine):
    gates = engine.identity["gates"]
    assert engine.settings == Settings("gates", gates, "centroids", 4, 2, 16, 16, 1.15, 128)


def test_a_receipt_has_the_settings_and_the_length_of_its_summary(engine):
    *_, finished = summarize(engine, book(1), max_tokens=6)
    assert isinstance(finished, Finished) and finished.receipt.settings == engine.settings
    assert finished.receipt.max_tokens == 6


def test_without_a_folder_of_gates_they_are_untrained(model_folder):
    model, _ = load(str(model_folder))
    assert settings_of(model).gates == "untrained" and settings_of(model).window == 512
