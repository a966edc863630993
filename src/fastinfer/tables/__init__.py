"""Results as tables: rows, Arrow, data frames and JSON lines.

``columns`` says which columns there are and of what kind, once for all; ``rows`` makes a row of a result, ``arrow`` and
``frames`` make tables of rows, ``files`` writes lines; ``results`` is the collection that users hold, ``display`` how
results are shown. pyarrow and pandas are imported when a table of theirs is asked for.
"""

from __future__ import annotations
