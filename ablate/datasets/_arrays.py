"""Arrays as contracts speak of them: what kind of number they hold; shapes are said in words."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    Anything = np.generic[object]
else:
    Anything = np.generic  # numpy lets only type checkers ask what is in it

Array = np.ndarray[tuple[int, ...], np.dtype[Anything]]
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
