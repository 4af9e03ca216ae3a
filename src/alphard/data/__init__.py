"""Where rows come from, and how they reach a model."""

from alphard.data.batches import Batches
from alphard.data.module import SplitData, TableData
from alphard.data.sources import BuiltIn, Npz, Synthetic
from alphard.data.table import Splits, Table
from alphard.data.tabular_file import Csv

__all__ = ["Batches", "BuiltIn", "Csv", "Npz", "SplitData", "Splits", "Synthetic", "Table", "TableData"]
