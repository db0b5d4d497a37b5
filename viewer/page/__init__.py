"""The self-contained page of a scene: its template, its script, and the renderer in `vendor/`."""
