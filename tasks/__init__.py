"""What is learnt: task URIs, splits, decoding, preprocessing. Imports nothing from the rooms above."""
