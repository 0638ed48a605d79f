"""mlx-edgeinf: documents summarised and asked about from the command line.

    mlx-edgeinf summarize report.pdf
    mlx-edgeinf chat report.pdf
    mlx-edgeinf chat report.pdf --question "Who is the author?" --json
    pdftotext report.pdf - | mlx-edgeinf summarize -
    mlx-edgeinf follow meeting.txt
    mlx-edgeinf library
    mlx-edgeinf models
    mlx-edgeinf serve
    mlx-edgeinf serve --api

Answers go to stdout, everything else to stderr. What was read stays in the library, so nothing is
read twice. Exit codes: 0 done, 1 failed, 2 wrong options, 130 stopped.
"""

from .commands import main as main
