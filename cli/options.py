"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Scene = Annotated[Path, typer.Argument(help="A scene folder, as `sparse3d recon` makes.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout and nothing else there.")]
Renderer = Annotated[str, typer.Option("--renderer", help="auto, gsplat (CUDA), cpu or reference.")]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="The next free one is taken when it is in use; 0: any free one.")
]
Host = Annotated[
    str, typer.Option("--host", help="Address to listen on. The default is reached from this machine only.")
]
