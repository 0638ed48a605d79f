"""The page people use: layout, handlers, chart and style, all served to this machine only.

Nothing here loads the model; it is loaded in the background once the page is open.
"""

from __future__ import annotations

import os

# Gradio reads this when it is imported, and would otherwise report the launch to its makers.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
