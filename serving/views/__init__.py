"""What the page shows, as plain values of an open store. No web framework, no JAX, no search."""
