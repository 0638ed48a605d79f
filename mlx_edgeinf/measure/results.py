"""Results of a measurement on disk: what was measured, with what, on which machine.

A file belongs to one setup and grows entry by entry, so that a run that was
stopped goes on where it was, and numbers of two setups never stand side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
from filelock import FileLock

from ..atomic import replace_text

# Where measurements are kept beside the code that made them.
FOLDER = Path("assets/results")

PACKAGES = ("mlx", "mlx-lm", "numpy")


class ResultsError(ValueError):
    """A results file that cannot be used; the message says why and what to do."""


@dataclass
class Results:
    """Measured entries by group and name, e.g. by document and row.

    setup: everything the numbers depend on; entries of another setup are refused.
    """

    path: Path
    setup: dict[str, Any]
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Results:
        """The results in a file.

        Raises:
            ResultsError: there is no such file, or it holds something else.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, fields["setup"], fields["entries"])
        except FileNotFoundError as error:
            raise ResultsError(f"{path} does not exist: measure first.") from error
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ResultsError(f"{path} is not a results file: choose another one.") from error

    @classmethod
    def resume(cls, path: Path, setup: dict[str, Any]) -> Results:
        """What is in the file so far, or the beginning of a new one.

        Raises:
            ResultsError: the file holds results of another setup.
        """
        if not path.exists():
            return cls(path, setup)
        results = cls.read(path)
        differing = [key for key in {**setup, **results.setup} if setup.get(key) != results.setup.get(key)]
        if differing:
            raise ResultsError(
                f"{path} holds results of another setup ({', '.join(differing)}): "
                "choose another --output, or delete that file to measure again."
            )
        return results

    def group(self, name: str) -> dict[str, Any]:
        """The entries of a group; none if nothing of it is measured yet."""
        return self.entries.get(name, {})

    def common(self, groups: Iterable[str]) -> set[str]:
        """Names that each of some groups has an entry of."""
        return set.intersection(*(set(self.group(name)) for name in groups))

    def has(self, group: str, name: str) -> bool:
        return name in self.group(group)

    def add(self, measured: dict[tuple[str, str], Any]) -> None:
        """Keep entries by (group, name), all of them at once; the file is replaced atomically.

        Several processes may measure into one file: each finds here what the others have added.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            self.refresh()
            for (group, name), entry in measured.items():
                self.entries.setdefault(group, {})[name] = entry
            self._write()

    def refresh(self) -> None:
        """Take over what other processes have added to the file."""
        if self.path.exists():
            self.entries = Results.read(self.path).entries

    def _write(self) -> None:
        text = json.dumps({"setup": self.setup, "entries": self.entries}, indent=1)
        replace_text(self.path, text + "\n")


def surroundings() -> dict[str, Any]:
    """The machine and the packages that measure, for `Results.setup`."""
    return {"machine": machine(), "packages": {name: version(name) for name in PACKAGES}}


def command(module: str, args: argparse.Namespace) -> str:
    """The command line that measures, without folders that only exist on this machine.

    args: options as parsed; a sub-command, if there is one, under the name `measurement`.
    """
    elsewhere = ("measurement", "output", "keep")
    options = {key: value for key, value in vars(args).items() if key not in elsewhere}
    words = [f"python -m mlx_edgeinf.{module}", getattr(args, "measurement", "")]
    return " ".join(filter(None, [*words, *(_option(key, value) for key, value in options.items())]))


def machine() -> str:
    """Processor, cores, system and MLX back end, for people."""
    backend = "Metal" if mx.metal.is_available() else "CPU"
    system = f"{platform.system()} {platform.machine()}"
    return f"{_processor()}, {os.cpu_count()} cores, {system}, MLX on {backend}"


def _option(name: str, value: Any) -> str:
    """An option as it is typed; nothing for one that was not given."""
    if value is None or value is False:
        return ""
    flag = f"--{name.replace('_', '-')}"
    values = [] if value is True else value if isinstance(value, list) else [value]
    return " ".join([flag, *(shlex.quote(_shown(value)) for value in values)])


def _shown(value: Any) -> str:
    path = Path(str(value))
    return path.resolve().name if isinstance(value, Path) or path.is_dir() else str(value)


def _processor() -> str:
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    names = mx.device_info().get("device_name")
    return names or platform.processor() or "unknown processor"


def described(setup: dict[str, Any], **added: list[Any]) -> str:
    """The sentence under a table: command, machine and packages.

    added: values of options that the setup leaves out, because they can be added to later.
    """
    words = [setup["command"], *(_option(name, values) for name, values in added.items())]
    packages = ", ".join(f"{name} {number}" for name, number in setup["packages"].items())
    return f"`{' '.join(words)}` on {setup['machine']}; {packages}."
