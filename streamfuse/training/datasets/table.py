"""Text and tables as people write them: read whole, or refused in one line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from streamfuse.errors import ConfigError


def read_text(path: Path, what: str) -> str:
    """A text file in UTF-8, without the mark that some programs put at its beginning.

    raises  ConfigError when it can not be read, or is in another encoding
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{what} must be readable", got=error.strerror, where=path) from error
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x} at {error.start}"
        raise ConfigError(f"{what} must be UTF-8", got=got, where=path, hint="save it as UTF-8") from error


def read_table(
    path: Path, what: str, columns: Sequence[str] = (), delimiters: str = ","
) -> list[tuple[int, dict[str, str]]]:
    """(line, row) of every row of a table; the delimiter is whichever its first line has most of.

    raises  ConfigError where one of `columns` is missing, in the table or in a row
    """
    text = read_text(path, what)
    delimiter = max(delimiters, key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise ConfigError("a table must have the column", got=f"none named {missing[0]}", where=path)
        for row in reader:
            where = f"{path}:{reader.line_num}"
            short = [name for name in columns if row[name] is None]
            if short:
                raise ConfigError("a row must have every column", got=f"no {short[0]}", where=where)
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise ConfigError(f"{what} must be a table", got=error, where=f"{path}:{reader.line_num}") from error
    return rows
