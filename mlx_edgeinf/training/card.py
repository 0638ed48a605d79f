"""The card beside trained gates: what they were trained on, how long, and what it brought."""

from __future__ import annotations

from textwrap import indent

from ..adapter import AdapterConfig

TEMPLATE = """# Memory gates for {base_model}

Trained by mlx_edgeinf: {share:.3%} of the base model's parameters, the base model frozen.
This card is written by `python -m mlx_edgeinf.finetune`.

| | |
|---|---|
| memory | {kind}, {features} per kv head and layer |
| exact | {sinks} sinks, window {window}, segment {segment} tokens |
| base model fingerprint | `{fingerprint}` |

Held-out loss is next-token loss in nats, over the tokens of an excerpt that count and are told with
more than the window; the validation documents are not among the training documents. Iteration 0 of
the first run is the untrained gate. A run with `--recall` trains the gates of exact recall, with the
memory off; others train the memory's.

| run | data | excerpts of | iterations | tokens | time | peak memory | held-out loss |
|---|---|---|---|---|---|---|---|
{rows}

Machine: {machine}.

{commands}
"""

ROW = (
    "| {number} | {documents} documents ({data}) | {excerpts} | {iteration} | {tokens:,} "
    "| {minutes:.0f} min | {peak:.1f} GB | {validation} |"
)


def write_card(config: AdapterConfig, share: float, runs: list[dict], machine: str) -> str:
    """Markdown text of the card.

    Args:
        share: trained parameters over the base model's.
        runs: of each training run in turn, the fields of `checkpoint.Progress`.
    """
    rows = [_row(number, run) for number, run in enumerate(runs, start=1)]
    commands = "\n\n".join(indent(run["command"], "    ") for run in runs)
    fields = {name: getattr(config, name) for name in config.__dataclass_fields__}
    return TEMPLATE.format(
        **fields, share=share, rows="\n".join(rows), machine=machine, commands=commands
    )


def _row(number: int, run: dict) -> str:
    validation = run["validation"]
    steps = ", ".join(f"{loss:.4f} (iteration {iteration})" for iteration, loss in validation)
    tokens = f"{run['length']} tokens"
    # Runs of earlier versions do not say how many count: all.
    counted = run.get("counted")
    return ROW.format(
        number=number,
        documents=run["documents"],
        data=run["data"],
        excerpts=f"up to {tokens}, the last {counted} of each" if counted else tokens,
        iteration=run["iteration"],
        tokens=run["tokens"],
        minutes=run["seconds"] / 60,
        peak=run["peak_bytes"] / 1e9,
        validation=steps or "not measured",
    )
