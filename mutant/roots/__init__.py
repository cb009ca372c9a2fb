"""Roots: the pretrained networks that systems grow from, as a registry of data, and their loading."""

from mutant.roots.info import HubFile, RootInfo, Source, Url, Wheel
from mutant.roots.load import Root, RootPart, layout, load_root
from mutant.roots.rows import find, registry

__all__ = [
    "HubFile",
    "Root",
    "RootInfo",
    "RootPart",
    "Source",
    "Url",
    "Wheel",
    "find",
    "layout",
    "load_root",
    "registry",
]
