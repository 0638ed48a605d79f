"""What decides, beside the text, how it is read and what is written of it. Stands alone, without MLX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How a model reads, and how it writes: greedily.

    gates: the name of their folder, "untrained" for none. fingerprint: of their values.
    memory, features: its kind and its size. sinks, window, segment: in tokens.
    repetition_penalty: for tokens among the last `repetition_tokens`.
    """

    gates: str
    fingerprint: str
    memory: str
    features: int
    sinks: int
    window: int
    segment: int
    repetition_penalty: float
    repetition_tokens: int

    def facts(self) -> dict[str, str]:
        """The settings, each by its name for people."""
        return {
            "Gates": f"{self.gates} ({self.fingerprint})",
            "Memory": f"{self.memory}, {self.features:,}",
            "Exact part": f"{self.sinks} sinks, window {self.window:,}, segment {self.segment:,} tokens",
            "Sampling": f"greedy, repetition penalty {self.repetition_penalty:g} over the last "
            f"{self.repetition_tokens:,} tokens",
        }
