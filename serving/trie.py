"""The paths of a batch as a trie of components: what several of them begin with is one node, run once for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mutant.serving.served import Loaded, Served


@dataclass(frozen=True, eq=False)
class Node:
    """A chain of components that the same paths run, on what the node below emits.

    `paths` are the indices of those paths, `ends` of those whose logits it emits.
    """

    chain: tuple[Loaded, ...]
    paths: tuple[int, ...]
    ends: tuple[int, ...]
    children: tuple["Node", ...]


def grow(paths: Sequence[Served]) -> dict[int, tuple[Node, ...]]:
    """The trie of paths: image size (pixels) to the nodes that begin there. Indices are places in `paths`."""
    sizes = sorted({path.image_size for path in paths})
    return {size: _nodes(paths, [i for i, path in enumerate(paths) if path.image_size == size], 0) for size in sizes}


def _nodes(paths: Sequence[Served], indices: Sequence[int], depth: int) -> tuple[Node, ...]:
    def digest(index: int) -> str:
        return paths[index].chain[depth].digest

    return tuple(_node(paths, tuple(group), depth) for _, group in groupby(sorted(indices, key=digest), key=digest))


def _node(paths: Sequence[Served], indices: tuple[int, ...], start: int) -> Node:
    first = paths[indices[0]].chain
    end = start + 1
    while all(end < len(paths[i].chain) for i in indices) and len({paths[i].chain[end].digest for i in indices}) == 1:
        end += 1
    ends = tuple(i for i in indices if len(paths[i].chain) == end)
    onward = [i for i in indices if i not in ends]
    return Node(first[start:end], indices, ends, _nodes(paths, onward, end) if onward else ())
