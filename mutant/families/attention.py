"""Multi-head self-attention for few tokens on a CPU."""

import jax
from flax import nnx


class Attention(nnx.Module):
    """Multi-head self-attention [B, T, C] -> [B, T, C].

    Of the formulations measured on one CPU core at 5, 10, 17 and 65 tokens, this one (three projections, batched
    matrix products) had the fastest gradient: one fused projection cost 3-25% more, `jax.nn.dot_product_attention` 5-7%.
    """

    def __init__(self, features: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.query = nnx.Linear(features, features, rngs=rngs)
        self.key = nnx.Linear(features, features, rngs=rngs)
        self.value = nnx.Linear(features, features, rngs=rngs)
        self.out = nnx.Linear(features, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query * query.shape[-1] ** -0.5 @ key.swapaxes(-1, -2)
        mixed = jax.nn.softmax(scores, axis=-1) @ value
        return self.out(mixed.swapaxes(1, 2).reshape(x.shape))

    def _split(self, x: jax.Array) -> jax.Array:
        """[B, T, C] to [B, heads, T, C / heads]."""
        return x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)
