"""The start of a system: a loaded root as the first path of the pool."""

import hashlib
import json
from typing import Any

from mutant.component import Component
from mutant.hyperparameters import Hyperparameters
from mutant.path import Part, Path
from mutant.roots import Root
from mutant.search.config import Settings
from mutant.storage.records import SystemInfo
from mutant.tasks.errors import UserError


def root_path(root: Root, image_size: int | None = None) -> tuple[Path, tuple[Component, ...]]:
    """The root as a path without task, parent or head, with its components.

    `image_size` in pixels is what children work at unless a mutation changes it (None: `default_image_size`).

    Raises `UserError` for a size that the root cannot take.
    """
    step, image_size = image_step(root), image_size or default_image_size(root)
    if image_size < step or image_size % step:
        below = max(step, image_size // step * step)
        raise UserError(
            f"{root.name} takes images of a multiple of {step} pixels, not {image_size}.", hint=f"Nearest: {below}."
        )
    content = [root.name, image_size, [[part.slot, part.component.digest] for part in root.parts]]
    identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    parts = tuple(
        Part(p.slot, p.component.spec, p.component.digest, p.component.n_parameters, p.depth, trained_by=identity)
        for p in root.parts
    )
    from mutant.cost import forward_flops

    flops = forward_flops([part.spec for part in parts], image_size)
    path = Path(identity, None, None, parts, Hyperparameters(image_size=image_size), flops=flops)
    return path, tuple(part.component for part in root.parts)


def default_image_size(root: Root) -> int:
    """Four steps: 56 pixels for a ViT of patch 14, else 64. Small, since every child is trained at this size."""
    return 4 * image_step(root)


def image_step(root: Root) -> int:
    """What an image size is a multiple of: a ViT's patch, or 16 pixels (arXiv 2205.12755)."""
    embedding = root.parts[0].component.spec
    return dict(embedding.config).get("patch", 16)  # pyright: ignore[reportReturnType]


def system_info(root: Root, path: Path, *, seed: int, version: str, settings: Settings) -> SystemInfo:
    """What a system was started from, for its database."""
    given: dict[str, Any] = settings.given()
    return SystemInfo(
        root=root.name,
        family=root.family,
        licence=root.licence,
        source=root.source,
        sha256=root.sha256,
        image_size=path.hyperparameters.image_size,
        seed=seed,
        mutant_version=version,
        settings={"run": given, "image_step": image_step(root)},
    )
