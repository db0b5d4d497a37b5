"""The numerics of Gaussian splatting: reference.py is the meaning, cpu.py and cuda.py are fast."""
