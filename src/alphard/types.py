"""Annotations that several signatures share; check.py holds a config's values against them."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan

Finite = Annotated[float, AllowInfNan(False)]
Positive = Annotated[Finite, Gt(0)]
NonNegative = Annotated[Finite, Ge(0)]
Share = Annotated[Finite, Ge(0), Lt(1)]  # may be nothing, never all
Part = Annotated[Finite, Gt(0), Le(1)]  # may be all, never nothing
Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
