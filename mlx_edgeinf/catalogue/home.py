"""Models on this machine: those that were downloaded, and any other folder of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from .refusal import ModelRefused
from .shape import Shape

CONFIG = "config.json"
WEIGHTS = "model*.safetensors"


@dataclass(frozen=True)
class LocalModel:
    """A model in a folder."""

    folder: Path
    shape: Shape
    weight_bytes: int

    @property
    def name(self) -> str:
        return self.folder.name


def default_home() -> Path:
    """The folder of downloaded models; each lies in `organisation/name` there."""
    return user_data_path("mlx_edgeinf", appauthor=False) / "models"


def downloaded(home: Path, repo: str) -> Path | None:
    """The folder of a model of the hub, if it was downloaded whole."""
    folder = home / repo
    return folder if folder.is_dir() else None


def whole_models(home: Path) -> list[tuple[str, Path]]:
    """Every model that was downloaded whole: its id on the hub and its folder."""
    folders = (folder for folder in sorted(home.glob("*/*")) if folder.is_dir())
    return [
        (f"{folder.parent.name}/{folder.name}", folder) for folder in folders if folder.suffix != ".partial"
    ]


def local_model(path: str | Path) -> LocalModel:
    """The model in a folder, as far as it can be told without loading it.

    Raises:
        ModelRefused: there is no such folder, no model in it that mlx-lm loads, or an unsupported one.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise ModelRefused(f"There is no folder {folder}: check how it is spelt.")
    shape = Shape.of(read_json(folder / CONFIG, folder.name), folder.name)
    weights = sum(file.stat().st_size for file in folder.glob(WEIGHTS))
    if not weights:
        raise ModelRefused(
            f"{folder} has no weights that mlx-lm loads (model.safetensors): convert the model with "
            "mlx_lm.convert, or choose another folder."
        )
    return LocalModel(folder, shape, weights)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The config.json of the model `name`.

    Raises:
        ModelRefused: it is not there or not a JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelRefused(
            f"{name} is no model for mlx-lm: there is no {path.name} in {path.parent} that could be read."
        ) from error
    except ValueError as error:
        raise ModelRefused(f"{name} cannot be used: its {path.name} is damaged.") from error
    if not isinstance(config, dict):
        raise ModelRefused(f"{name} cannot be used: its {path.name} is damaged.")
    return config
