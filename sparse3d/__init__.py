"""From a handful of photos to an explorable 3D Gaussian scene."""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("sparse3d.kernels") is None:
    raise ImportError(
        "sparse3d was imported from its source folder, which holds only part of the package. "
        "Run `pip install -e .` once, or start Python from another folder."
    )
