"""One photo to a scene: depth, layers, and views drawn outwards."""
