"""The networks that sparse3d trains itself: procedural data, training loops, the files they make. `sparse3d train` runs it."""
