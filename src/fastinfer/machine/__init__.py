"""The machine that fastinfer runs on: :func:`~fastinfer.machine.doctor.doctor` says whether it is ready.

``doctor`` puts the ``diagnosis`` together; ``checks/`` has what is looked at, a module for each part of the machine.
Nothing here changes the machine or loads a model, and the engines are only loaded into processes of their own: that is
why importing this package imports none of it.
"""

from __future__ import annotations
