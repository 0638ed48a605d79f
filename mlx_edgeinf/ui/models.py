"""The panel of models, as HTML: what there is to choose from, and what goes on with it."""

from __future__ import annotations

from html import escape

from ..beside import GATES
from ..catalogue.lessons import ITERATIONS
from ..catalogue.machine import Fit, machine_memory
from ..catalogue.offers import Gates, Offer
from ..wording import percent, size
from .picker import Picker
from .preparation import Preparation

OPENER = """<button type="button" class="quiet chooser" data-do="models" aria-expanded="false"
aria-controls="models">Models</button>"""

HINT = "This list asks nobody: only a download contacts huggingface.co."


def progress(picker: Picker, preparation: Preparation) -> str:
    """What goes on, with the button that ends it; empty if nothing does."""
    parts = []
    if picker.fetching:
        done, total = picker.fetching.bytes
        ending = picker.fetching.cancel.is_set()
        share = f" {size(done)} of {size(total)}, {percent(done / total)}" if total else ""
        parts.append(_going_on(f"Downloading {picker.fetching.repo}{share}", "cancel", "Cancel", ending))
    if picker.stop:
        parts.append(_going_on(preparation.step, "stop", "Stop", picker.stop.is_set()))
    elif not preparation.done:
        parts.append(f'<p role="status">{escape(preparation.step)}</p>')
    return "".join(parts)


def panel(picker: Picker, preparation: Preparation) -> str:
    """The models, each with what it needs and what can be done with it, and a field for any other one."""
    offers, own = picker.offers(), picker.own
    if own and own.folder not in {offer.folder for offer in offers}:
        offers.insert(0, own)
    return f"""<section aria-label="Models" class="models">{_said(picker)}
<p class="hint">This machine has {size(machine_memory())} of memory. {HINT}</p>
<ol>{"".join(_card(offer, picker, preparation) for offer in offers)}</ol>
<form data-do="name"><label for="model-name">Another one: the folder of a model for mlx-lm, or a model of
the hub</label><div class="line"><input id="model-name" name="name" required
placeholder="/path/to/folder or organisation/name">
<button {_enabled(preparation.done)}>Use or download</button></div></form>
</section>"""


def _said(picker: Picker) -> str:
    if picker.problem:
        return f'<p class="problem" role="alert">{escape(picker.problem)}</p>'
    return f'<p class="told" role="status">{escape(picker.told)}</p>' if picker.told else ""


def _card(offer: Offer, picker: Picker, preparation: Preparation) -> str:
    current = _is_current(offer, picker)
    own = _gates_of_own(offer, picker, preparation) if current else ""
    return f"""<li{' aria-current="true"' if current else ""}>
<div><h3>{escape(offer.name)}</h3><p>{_facts(offer)}</p></div>
{_button(offer, picker, preparation)}{own}</li>"""


def _facts(offer: Offer) -> str:
    where = "on this machine" if offer.folder else "to download" if offer.repo else ""
    need = f"{size(offer.need)} of memory: {offer.fit.value}"
    if offer.fit is not Fit.FITS:
        need = f"<em>{need}</em>"
    gates = offer.gates.value
    if offer.gates is Gates.UNFINISHED:
        gates = f"gates trained in {offer.steps} of {ITERATIONS} steps"
    about = f"{'' if offer.folder else 'about '}{size(offer.size)} {where}".strip()
    return " · ".join(filter(None, (about, need, escape(offer.licence), gates)))


def _is_current(offer: Offer, picker: Picker) -> bool:
    return offer.starter if picker.model is None else str(offer.folder) == picker.model


def _button(offer: Offer, picker: Picker, preparation: Preparation) -> str:
    name, ready = escape(offer.name), _enabled(preparation.done)
    if _is_current(offer, picker):
        return '<span class="chosen">In use</span>'
    if offer.starter:
        return f'<button type="button" data-do="use" aria-label="Use {name}" {ready}>Use</button>'
    if offer.folder:
        model = escape(str(offer.folder))
        return f"""<button type="button" data-do="use" data-model="{model}" aria-label="Use {name}"
{ready}>Use</button>"""
    return f"""<button type="button" data-do="download" data-repo="{escape(offer.repo)}"
aria-label="Download {name}" {_enabled(picker.fetching is None)}>Download</button>"""


def _gates_of_own(offer: Offer, picker: Picker, preparation: Preparation) -> str:
    """What can be done about the gates of the model in use; nothing if it has them."""
    if not preparation.done or preparation.problem or offer.starter:
        return ""
    if offer.gates is Gates.NONE and preparation.engine.has_gates:
        return '<p class="gates">Its gates come with the program or were named at the start.</p>'
    if offer.gates not in (Gates.NONE, Gates.UNFINISHED):
        return ""
    left = (ITERATIONS - offer.steps) / ITERATIONS * picker.estimate(offer)
    state = "This model has no gates yet: its memory answers, but untrained."
    if offer.gates is Gates.UNFINISHED:
        state = f"The gates of this model were trained in {offer.steps} of {ITERATIONS} steps."
    label = "Train on" if offer.steps else "Train gates"
    return f"""<form data-do="train" class="gates"><p>{state} Training takes roughly {_roughly(left)} here;
meanwhile nothing can be read. Stop keeps the steps done. The gates are kept in the model's folder, under
{GATES}.</p><label for="texts">Train on the documents of the library, or on the texts in a folder:</label>
<div class="line"><input id="texts" name="texts" placeholder="the library">
<button>{label}</button></div></form>"""


def _roughly(seconds: float) -> str:
    minutes = max(round(seconds / 60), 1)
    return f"{minutes} min" if minutes < 60 else f"{minutes / 60:.0f} h"


def _going_on(text: str, do: str, label: str, ending: bool) -> str:
    label, enabled = ("Stopping …", "disabled") if ending else (label, "")
    return f"""<div class="going-on"><p role="status">{escape(text)}</p>
<button type="button" data-do="{do}" {enabled}>{label}</button></div>"""


def _enabled(ready: bool) -> str:
    return "" if ready else "disabled"
