"""What must hold whatever the bytes are: a function for each parser of things that come from elsewhere.

Each module in :mod:`fuzzing.targets` has a ``check(data)`` that returns nothing, or raises AssertionError where
something does not hold; any other exception that leaves it is a finding too. ``fuzzing/corpus/TARGET`` has inputs that
were findings once. They run in two lanes:

- the tests run every target over its seeds, its corpus and some hundred mutations of them, always the same ones;
- ``python -m fuzzing TARGET --seconds 600`` lets atheris look for new ones, guided by the lines that an input reaches
  (``pip install 'fastinfer[fuzz]'``, for the versions of Python that it has wheels for).
"""

from __future__ import annotations
