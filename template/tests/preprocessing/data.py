"""Generated features, with all that makes preprocessing hard: gaps, zeros, negatives, constants, ties, wide ranges."""

import numpy as np
import pandas as pd

SEED = 4
COLOURS = ["red", "green", "blue", "ultra violet"]


def numeric(rows: int, seed: int) -> pd.DataFrame:
    """Numbers without gaps."""
    rng = np.random.default_rng([SEED, seed])
    return pd.DataFrame({
        "normal": rng.normal(size=rows),
        "heavy": np.exp(3 * rng.normal(size=rows)),
        "count": rng.poisson(1.5, size=rows).astype(float),
        "negative": -np.exp(rng.normal(size=rows)) - 1e-3,
        "constant": np.full(rows, 5.25),
        "zero": np.zeros(rows),
        "timestamp": 1.7e9 + np.floor(1e7 * rng.random(rows)) + 0.125,
        "tiny": 1e-9 * rng.normal(size=rows),
        "ties": rng.integers(0, 4, size=rows) / 10,
    })


def gappy(rows: int, seed: int) -> pd.DataFrame:
    """The same with a fifth of each column missing."""
    frame = numeric(rows, seed)
    return frame.mask(np.random.default_rng([SEED, seed, 1]).random(frame.shape) < 0.2)


def positive(rows: int, seed: int) -> pd.DataFrame:
    """Numbers above 0."""
    frame = numeric(rows, seed)
    return frame[["heavy", "timestamp", "constant"]].assign(small=frame["heavy"] / 1e6, count=frame["count"] + 1)


def outside(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, and rows far outside of what it holds, at its ends, and near zero."""
    edges = [frame.min(), frame.max(), frame.median(), frame.min() - 1e-8, frame.max() + 1e-8]
    far = [frame.min() - 10 * frame.abs().max(), frame.max() * 100 + 1e3, frame * 0 + 1e-300, frame * 0 - 0.0]
    rows = [pd.DataFrame(edges)] + [part.head(1) if isinstance(part, pd.DataFrame) else part.to_frame().T for part in far]
    return pd.concat([frame, *rows], ignore_index=True)


def categories(rows: int, seed: int, unseen: bool = False) -> pd.DataFrame:
    """Strings and numbers as categories; `unseen` has some that a frame without does not have."""
    rng = np.random.default_rng([SEED, seed, 2])
    colours, levels = (COLOURS + ["black"], [1, 2, 3, 9]) if unseen else (COLOURS, [1, 2, 3])
    return pd.DataFrame({
        "colour": rng.choice(colours, size=rows, p=[0.5, 0.3, 0.15, 0.03, 0.02] if unseen else [0.5, 0.3, 0.15, 0.05]),
        "level": rng.choice(levels, size=rows),
        "rate": rng.choice([0.1, 0.2, 0.30000000000000004, -0.0], size=rows),
        "flag": rng.choice([False, True], size=rows),
        "only": ["x"] * rows,
    })


def with_gaps(frame: pd.DataFrame, columns: list[str], missing) -> pd.DataFrame:
    """Every seventh row of the columns is missing."""
    frame = frame.copy()
    for column in columns:
        if pd.api.types.is_numeric_dtype(frame[column]):
            frame[column] = frame[column].astype(float)
        frame.loc[::7, column] = missing
    return frame
