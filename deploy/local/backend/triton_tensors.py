"""Exchange tensors with Triton's Python stub without copies, as DLPack capsules.

`pb.Tensor` and `as_numpy` use numpy's C interface of 1.x: under numpy 2 they give empty arrays. This file is copied
beside `model.py`.
"""

import ctypes
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

USED = b"used_dltensor"  # the capsule keeps only a pointer to it
set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


def from_triton(tensor: Any) -> np.ndarray:
    """Return the array of a pb.Tensor of any numeric type; it shares the tensor's memory."""
    return np.from_dlpack(tensor)


def to_triton(name: str, array: np.ndarray) -> Any:
    """Return the pb.Tensor of a writable, contiguous array of any numeric type; it shares the array's memory."""
    if array.size == 0:
        return pb.Tensor(name, array)  # the stub refuses a capsule without data
    capsule = array.__dlpack__()
    tensor = pb.Tensor.from_dlpack(name, capsule)
    # The stub names a used capsule otherwise than DLPack does, and numpy reports that as an error.
    set_capsule_name(capsule, USED)
    return tensor
