"""Published weights: what there is (`registry`), where it lies (`store`), how it gets there (`fetch`), how it is read (`weights`).

Nothing here downloads on its own: `sparse3d models fetch NAME` does. Importing it loads neither torch nor the hub's library.
"""
