"""One component: who made it and from what (blame), and who needs it (impact)."""

from dataclasses import dataclass

from mutant.storage import lineage
from mutant.storage.store import Store


@dataclass(frozen=True)
class SourceView:
    """The component that another was cloned from, and the task that trained it (None: pretrained)."""

    component: str
    task: str | None


@dataclass(frozen=True)
class PlaceView:
    """Where in the runs a component was made; all count from 0 but the run."""

    run: int
    segment: int
    generation: int
    child: int


@dataclass(frozen=True)
class BlameView:
    """Who made a component: `task` None when it came with the root, `place` None also when it was imported.

    `source` is None when it began fresh or was pretrained. `licence` and `origin` are the root's, for pretrained ones.
    """

    task: str | None
    path: str
    parent: str | None
    place: PlaceView | None
    source: SourceView | None
    weights: str
    licence: str | None
    origin: str | None


@dataclass(frozen=True)
class UserView:
    """A task and how many of its trained paths use a component; `slot`: where its best path does (None: it does not).

    A task with a slot breaks without the component.
    """

    task: str
    paths: int
    slot: str | None


@dataclass(frozen=True)
class ImpactView:
    """Who needs a component, in the order in which the tasks came; `root`: whether the root does."""

    root: bool
    users: list[UserView]


@dataclass(frozen=True)
class ComponentView:
    """A component: `kind` and `settings` say what it computes, `slot` where it stands."""

    digest: str
    slot: str
    kind: str
    settings: dict[str, str]
    parameters: int
    blame: BlameView
    impact: ImpactView


def component_view(store: Store, id_or_prefix: str) -> ComponentView:
    """The component whose digest begins so. Raises Unknown, with the nearest, when there is none or more than one."""
    with store.reading() as connection:
        digest = lineage.component_id(connection, id_or_prefix)
        blame, impact = lineage.blame(connection, digest), lineage.impact(connection, digest)
    return ComponentView(
        digest=digest,
        slot=blame.slot,
        kind=blame.spec.kind,
        settings={name: str(value) for name, value in blame.spec.config},
        parameters=blame.n_parameters,
        blame=_blame(store, blame),
        impact=ImpactView(
            impact.root, [UserView(task, paths, impact.active.get(task)) for task, paths in impact.paths.items()]
        ),
    )


def _blame(store: Store, found: lineage.Blame) -> BlameView:
    pretrained = found.task is None
    place, source = found.place, found.source
    return BlameView(
        task=found.task,
        path=found.path,
        parent=found.parent,
        place=None if place is None else PlaceView(place.run, place.segment, place.generation, place.child),
        source=None if source is None else SourceView(source.digest, source.task),
        weights=found.weights,
        licence=store.info.licence if pretrained else None,
        origin=store.info.source if pretrained else None,
    )
