"""The only place that imports pycolmap and cv2: their order matters.

Both bring their own copies of image libraries. With pycolmap loaded first, cv2's PNG writer aborts the process.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from sparse3d.errors import UserError


def cv2() -> ModuleType:
    """The OpenCV module.

    Raises:
        UserError: it is missing, or a system library that it needs is.
    """
    try:
        return importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        raise UserError(f"OpenCV is missing ({error}). Install it with: pip install opencv-python") from error
    except ImportError as error:
        if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
            raise UserError(
                f"OpenCV cannot start: {error}. Install the library (Debian, Ubuntu: apt install libgl1 libglib2.0-0), "
                "or use the OpenCV without windows: pip uninstall -y opencv-python; pip install opencv-python-headless"
            ) from error
        raise UserError(
            f"OpenCV cannot start: {error}. Reinstall it with: pip install --force-reinstall opencv-python"
        ) from error


def pycolmap() -> ModuleType:
    """The pycolmap module, with cv2 imported before it.

    Raises:
        UserError: one of the two is missing or cannot start.
    """
    cv2()
    try:
        module = importlib.import_module("pycolmap")
    except ImportError as error:
        raise UserError(f"pycolmap cannot be imported ({error}). Install it with: pip install 'pycolmap>=4'") from error
    module.logging.minloglevel = 3  # COLMAP's own log; what matters is said by us
    return module
