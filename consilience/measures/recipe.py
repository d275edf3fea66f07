"""What tells one metric of fitted directions from another."""

from collections.abc import Callable
from dataclasses import dataclass

from consilience.measures.comparison import Side
from consilience.numerics.arrays import Float32Array
from consilience.numerics.dealt_moments import Sums
from consilience.numerics.moments import FloatArray
from consilience.numerics.nulls import Law
from consilience.numerics.permutations import Permutation
from consilience.numerics.spectra import Factor, Spectrum, decompose_moments, find_spectrum
from consilience.numerics.streamed_layers import Products, SumsLayer

#: The score of other rows, paired, of two layers under a fit; from their sums along the fitted directions.
HeldOut = Callable[[Factor, Factor, Sums], float]


@dataclass(frozen=True)
class Recipe:
    """How a metric weighs a layer and compares two of them.

    Attributes
    ----------
    kind : tells factors apart, with every option that they depend on
    weigh : a layer's factor from its spectrum
    value : the score of two factors, with b's rows permuted where asked
    held_out : the score of other rows under a fit; None: the interval is that of the block jackknife
    law : the closed-form null, where there is one
    centre, zscore, leading : how the spectrum is taken, and how many of its directions where not all are needed
    spare : a layer of rank n - spare or more makes the value the same whatever the pairing; None where no rank does
    """

    kind: str
    weigh: Callable[[Spectrum], Factor]
    value: Callable[[Factor, Factor, Permutation | None], float]
    held_out: HeldOut | None
    law: Callable[[Factor, Factor], Law] | None = None
    centre: bool = True
    zscore: bool = False
    leading: int | None = None
    spare: int | None = None

    def find_factor(self, side: Side, index: int) -> Factor:
        """A layer's factor; metrics that weigh layers alike share it, and all share the spectrum."""
        spectrum = f"spectrum centre={self.centre} zscore={self.zscore} leading={self.leading}"

        def find() -> Factor:
            return self.weigh(side.keep(index, spectrum, lambda: self._find_spectrum(side, index)))

        return side.keep(index, f"factor {self.kind}", find)

    def fit(self, rows: Float32Array | SumsLayer) -> Factor | None:
        """The factor of some of a layer's rows, or of their sums; None where it leaves the value undefined."""
        if isinstance(rows, SumsLayer):
            factor = self.weigh(self._decompose_moments(rows, rows.square))
        else:
            factor = self.weigh(self._decompose(rows))
        return None if factor.rank == 0 or self.fills(factor) else factor

    def _find_spectrum(self, side: Side, index: int) -> Spectrum:
        if not side.streams(index):
            return self._decompose(side.rows(index))
        layer = side.streamed(index)
        return self._decompose_moments(layer, layer.own.square)

    def _decompose(self, rows: Float32Array) -> Spectrum:
        return find_spectrum(rows, centre=self.centre, zscore=self.zscore, leading=self.leading)

    def _decompose_moments(self, products: Products, square: FloatArray) -> Spectrum:
        return decompose_moments(products, square, centre=self.centre, zscore=self.zscore, leading=self.leading)

    def fills(self, factor: Factor) -> bool:
        """Whether a layer spans all that its rows have room for, where that settles the value."""
        return self.spare is not None and factor.rank >= factor.n - self.spare
