"""Where rows come from, and how they reach a model."""

from typing import TYPE_CHECKING, Any

from alphard.data.batches import Batches
from alphard.data.module import SplitData, TableData
from alphard.data.sources import BuiltIn, Npz, Synthetic
from alphard.data.table import Splits, Table

if TYPE_CHECKING:
    from alphard.data.tabular_file import Csv

__all__ = ["Batches", "BuiltIn", "Csv", "Npz", "SplitData", "Splits", "Synthetic", "Table", "TableData"]


def __getattr__(name: str) -> Any:
    """Csv, when somebody asks for it: it reads with pandas, which ready numbers do without."""
    if name != "Csv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from alphard.data.tabular_file import Csv

    return Csv
