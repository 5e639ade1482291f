"""types_parquet.py FOLDER: writes types.parquet with a column of each type that databases and pandas export, and types.json with the rows
that they must be read as. Needs pyarrow, which the tests do not: what it made is in tests/common/files/."""

import datetime as dt
import json
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

folder = Path(sys.argv[1])
whole = [1, None, 100]
columns = {name: (pa.array(whole, getattr(pa, name)()), whole)
           for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")}
low = [-100, -1, None]
columns |= {f"low_{name}": (pa.array(low, getattr(pa, name)()), low) for name in ("int8", "int16", "int32", "int64")}
for bits in (8, 16, 32, 64):
    top = [2**bits - 1, None, 0]
    columns[f"top_uint{bits}"] = pa.array(top, getattr(pa, f"uint{bits}")()), top
halves = [1.5, None, -0.0999755859375]
for name in ("float16", "float32", "float64"):
    columns[name] = pa.array(halves, getattr(pa, name)()), halves if name != "float32" else [1.5, None, -0.0999755859375]
columns["nan"] = pa.array([float("nan"), 1.0, 2.0]), [None, 1, 2]
columns["bool"] = pa.array([True, None, False]), [1, None, 0]
for precision, scale, texts in ((5, 2, ["1.25", None, "-3.07"]), (38, 18, ["12345678901234567890.123456789012345678", None, "-0.1"]),
                                (18, 4, ["0.0001", None, "99999999999999.9999"])):
    values = [None if text is None else Decimal(text) for text in texts]
    columns[f"decimal_{precision}_{scale}"] = (pa.array(values, pa.decimal128(precision, scale)),
                                              [None if value is None else float(value) for value in values])
wei = [2 * 10**19, None, -(10**60)]
columns["decimal256"] = (pa.array([None if v is None else Decimal(v) for v in wei], pa.decimal256(70, 0)),
                         [None if v is None else float(v) for v in wei])
words = ["gold", None, "silver"]
columns["string"] = pa.array(words), words
columns["large_string"] = pa.array(words, pa.large_string()), words
columns["category"] = pa.array(words).dictionary_encode(), words
columns["category_of_numbers"] = pa.array([7, None, 8]).dictionary_encode(), [7, None, 8]
columns["nothing"] = pa.nulls(3), [None] * 3
day = dt.date(2024, 5, 1)
unusable = {
    "date": pa.array([day] * 3),
    "datetime": pa.array([dt.datetime(2024, 5, 1)] * 3, pa.timestamp("ns")),
    "zoned": pa.array([dt.datetime(2024, 5, 1)] * 3, pa.timestamp("us", "UTC")),
    "time": pa.array([dt.time(1)] * 3, pa.time64("us")),
    "duration": pa.array([dt.timedelta(1)] * 3, pa.duration("us")),
    "list": pa.array([[1]] * 3),
    "struct": pa.array([{"a": 1}] * 3),
    "binary": pa.array([b"a"] * 3),
    "binary16": pa.array([b"0123456789abcdef"] * 3, pa.binary(16)),
}
table = pa.table({name: array for name, (array, _) in columns.items()} | unusable)
pq.write_table(table, folder / "types.parquet")
pq.write_table(table, folder / "types_as_integers.parquet", store_decimal_as_integer=True, store_schema=False)
rows = [{name: values[at] for name, (_, values) in columns.items()} for at in range(3)]
(folder / "types.json").write_text(json.dumps(rows))
