"""The page people use: layout, handlers, chart and style, all served to this machine only.

Nothing here loads the model; it is loaded in the background once the page is open.

    open server access tabs           from the command to a page that only its user reaches
    page                              the layout, and which handler each button calls
    room session                      what all open pages share, and what one of them knows
    handlers librarian picking        what the buttons of the desk, the library and the models do
    keeping asof recognising          what they need for it: the library, checkpoints, text recognition
    picker preparation background     the model: chosen, made ready, in a thread of its own
    view                              everything on the page that changes, made by these:
      desk shelf sheet leaf models chart meter insight record links prose
"""

from __future__ import annotations

import os

# Gradio reads this when it is imported, and would otherwise report the launch to its makers.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
