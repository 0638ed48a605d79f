from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from importlib.resources import files

import pytest


def test_the_page_opens_before_mlx_is_imported():
    code = "import sys, mlx_edgeinf.ui.open; print('mlx.core' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_gradio_is_told_to_report_nothing():
    importlib.import_module("mlx_edgeinf.ui")
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


@pytest.mark.parametrize("scheme", [":root", ".dark"])
def test_words_stand_out_from_what_they_are_on(scheme):
    colours = palette(scheme)
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent", "warm") for ground in ("paper", "sheet")]
    for ink, ground in [*pairs, ("on-accent", "accent"), ("on-accent", "accent-strong")]:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def palette(scheme: str) -> dict[str, str]:
    style = files("mlx_edgeinf.ui").joinpath("style", "palette.css").read_text("utf-8")
    block = style.split(scheme + " {")[1].split("}")[0]
    return dict(re.findall(r"--([\w-]+): (#\w{6});", block))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))
