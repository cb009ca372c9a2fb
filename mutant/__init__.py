"""mutant: a multitask model that grows one task at a time (muNet, arXiv 2205.10937; µ2Net, arXiv 2205.12755).

The public API is exported lazily: importing this package imports no JAX, no database and no Ray.
"""

from mutant import backend

backend.prepare()

__version__ = "0.1.0"
