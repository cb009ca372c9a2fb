"""JAX's, Flax's and Optax's functions as `Any`: their own annotations are partly unknown to a strict type checker."""

import importlib
from typing import Any

import jax
from flax import nnx

xla: Any = jax
xla_bridge: Any = importlib.import_module("jax._src.xla_bridge")
"""JAX's own record of the back ends that run; no public function tells without starting one."""
jnp: Any = jax.numpy
lax: Any = jax.lax
custom_vjp: Any = jax.custom_vjp
graph: Any = nnx
"""Flax's functions over graphs of modules: split, merge, flat states."""
optax: Any = importlib.import_module("optax")
