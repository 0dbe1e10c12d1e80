#!/usr/bin/python3
"""Prints which PyTorch this is, how it was built, and which BLAS library it really loads."""
import ctypes

import torch

print(f"PyTorch {torch.__version__}")
print(torch.__config__.show().strip())
torch.rand(64, 64) @ torch.rand(64, 64)  # loads what is loaded late
with open("/proc/self/maps") as maps:
    paths = {line.split()[-1] for line in maps}
for path in sorted(p for p in paths if any(name in p for name in ("blas", "lapack", "mkl", "gomp", "dnnl"))):
    print(f"loaded: {path}")
    if "openblas" in path:
        library = ctypes.CDLL(path)
        if hasattr(library, "openblas_get_config"):
            library.openblas_get_config.restype = ctypes.c_char_p
            print(f"  {library.openblas_get_config().decode()}")
