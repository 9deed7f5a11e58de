"""Equal keys: which rows stand for all others, and for each row which of them is its like."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.intp]


def alike(keys: Sequence[Hashable]) -> tuple[Places, Places]:
    """The first row of each distinct key, and for each row the place of its key among them.

    What follows from the key alone is worked out for the first rows and spread by the places.
    """
    places: dict[Hashable, int] = {}
    place = np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.intp)
    first = np.full(len(places), len(keys), dtype=np.intp)
    np.minimum.at(first, place, np.arange(len(keys)))
    return first, place
