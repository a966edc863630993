"""What a preset would take of a machine's memory, before anything is loaded: ``planner`` is the way in.

``llama_chat``, ``llama_classify`` and ``turbomind_classify`` know their engine (each an ``engine.EnginePlanner``), with
the arithmetic in ``llama``, ``weights``, ``vision`` and ``turbomind``; ``ladder`` has the documented order of making a
preset smaller, ``device`` what it is planned for, ``need`` memory by part, ``result`` the plan itself.
"""

from __future__ import annotations

from fastinfer.planning.need import Need, Part
from fastinfer.planning.planner import plan
from fastinfer.planning.result import Bound, Plan, PlanStep

__all__ = ["Bound", "Need", "Part", "Plan", "PlanStep", "plan"]
