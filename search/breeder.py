"""Children of a segment one after the other: the same from the same snapshots, in a run and in its replay."""

from dataclasses import replace

from mutant.path import Path
from mutant.position import Position
from mutant.reproduction import DataDraw
from mutant.search.generation import Breeding, Child
from mutant.search.population import Population


class Breeder:
    """Draws a segment's next child, for a run without generations."""

    def __init__(self, breeding: Breeding, position: Position) -> None:
        self._breeding, self._position = breeding, position
        self._data: DataDraw | None = None

    def place(self, number: int) -> Position:
        """Where the `number`-th child of the segment stands, counted from 0."""
        generation, child = divmod(number, self._breeding.config.generation_size)
        return self._position.at(generation=generation, child=child)

    def draw(self, population: Population, *, deep: bool = True) -> Child:
        """The child after all that `population` counts. `deep` False: not a deep one, for want of budget."""
        here, config = self.place(population.children), self._breeding.config
        breeding = self._breeding if deep else replace(self._breeding, config=replace(config, deep_every=0))
        data = self._data if here.child else None
        child, self._data = breeding.child(population.parents, here, population.children, population.given, data)
        return child

    def go_on(self, number: int, first: Path) -> None:
        """Draw from the `number`-th child on, within a generation whose first child has this parent."""
        self._data = self._breeding.data(first, self.place(number))
