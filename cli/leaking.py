"""What is told about leakage: test images of a task that trained what its path is made of."""

from typing import TYPE_CHECKING, Any

from mutant.cli.display import say
from mutant.cli.words import first_few, listed, plural

if TYPE_CHECKING:
    from mutant.path import Path
    from mutant.storage.store import Store


def leakage_facts(store: "Store", path: "Path") -> dict[str, Any]:
    """The leakage of a path's task, as plain data."""
    from mutant.storage.leakage import leakage

    found = leakage(store, path)
    return {
        "task": found.task,
        "test_images": found.test_images,
        "leaks": [
            {
                "task": leak.task,
                "identical": leak.exact,
                "near_duplicates": leak.near,
                "components": [{"slot": slot, "component": digest} for slot, digest in leak.components],
            }
            for leak in found.leaks
        ],
        "checked": [leak.task for leak in found.trained_by if leak.exact is not None],
        "unknown": list(found.unknown),
    }


def show_leaks(found: dict[str, Any], *, everything: bool = False) -> None:
    """A line per leak; `everything`: also when none was found."""
    for leak in found["leaks"]:
        images = leak["identical"] + leak["near_duplicates"]
        slots = list(dict.fromkeys(component["slot"] for component in leak["components"]))
        say(
            f"Leakage: {images:,} of {plural(found['test_images'], 'test image')} of {found['task']} "
            f"({leak['identical']:,} identical, {leak['near_duplicates']:,} near duplicates) are training images of "
            f"{leak['task']}, which trained {first_few(slots)} of its path or what they were cloned from."
        )
    if found["unknown"]:
        say(
            f"Leakage: unknown for {listed(found['unknown'])}: an older version of mutant, which kept no hashes of "
            f"images, added or imported {found['task']} or what trained its path."
        )
    elif everything and not found["leaks"]:
        say(f"Leakage: none of {plural(found['test_images'], 'test image')} found in what trained the path.")
