"""Gates that lie beside a base model: in its folder, or in `gates/` there.

Nothing here needs MLX, so a list of models can say at once which of them have gates.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

CONFIG, PROGRESS = "adapter_config.json", "training.json"
GATES = "gates"


def gates_beside(model: str | Path) -> Path | None:
    """The folder of the gates beside a model in a local folder, if there are any.

    An adapter of another kind, such as a LoRA's, may lie in a model's folder: it is passed over.
    """
    homes = (Path(model) / GATES, Path(model))
    return next((home for home in homes if _are_gates(home / CONFIG)), None)


def steps_trained(gates: Path) -> int | None:
    """Iterations that the last training of these gates has done; None if there is no record of it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(_record(gates)["iteration"])
    return None


def trained_on(gates: Path) -> str | None:
    """Names of the folders of texts that these gates were last trained on; None if there is no record."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(_record(gates)["data"])
    return None


def _record(gates: Path) -> dict[str, Any]:
    return json.loads((gates / PROGRESS).read_text(encoding="utf-8"))


def _are_gates(config: Path) -> bool:
    with suppress(OSError, ValueError):
        fields = json.loads(config.read_text(encoding="utf-8"))
        return isinstance(fields, dict) and {"fingerprint", "features"} <= fields.keys()
    return False
