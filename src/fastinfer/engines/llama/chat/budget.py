"""How many prompt tokens a step takes, and how many rows a step without prompts has best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

__all__ = ["PromptBudget", "RowPadding", "prompt_budget", "share", "share_apart"]

#: While replies run, the prompt tokens of a step may take this much of the time that it takes without them,
_STRETCH = 0.9
#: or this much for each slot that waits for its prompt, by those that reply, if that is more.
_WAITING = 6.0
#: Prompt tokens beside replies come in multiples of this.
_GRAIN = 16
#: Prompt tokens beside replies before a time is known.
_FIRST = 64
#: Prompts whose lengths differ by less count as equally long where prompts are computed apart.
_ALIKE = 64
#: The share of the budget that the longest-waiting prompt gets in any case.
_OLDEST = 4
#: Steps with waiting prompts that may follow each other before prompts have to wait again.
_SAVED = 4.0
#: A step time counts as known for this many steps.
_FRESH = 256
#: The weight of a new measurement.
_NEW = 0.25


def share(pending: Sequence[int], budget: int) -> list[int]:
    """Split a budget of prompt tokens among prompts that are computed together.

    The shortest is finished first, which gives the earliest first tokens on the whole; the prompt that has waited
    longest gets at least a quarter, so that it gets on however many shorter ones arrive.

    Args:
        pending: tokens each prompt still needs, in order of arrival.
        budget: tokens to give away.

    Returns:
        Tokens for each prompt, none more than it needs, together ``budget`` or all that are needed.
    """
    given = [0] * len(pending)
    if pending:
        given[0] = min(pending[0], -(-budget // _OLDEST))
        budget -= given[0]
    for i in sorted(range(len(pending)), key=lambda i: pending[i] - given[i]):
        more = min(pending[i] - given[i], budget)
        given[i] += more
        budget -= more
    return given


def share_apart(pending: Sequence[int], budget: int, places: Sequence[int], turn: int) -> list[int]:
    """Split a budget of prompt tokens where only equally many tokens of neighbours are computed together.

    The shortest is finished first, and of prompts about equally long those that are neighbours; in every fourth step it
    is the one that has waited longest. A piece of a prompt is given only where none fits whole.

    Args:
        pending: tokens each prompt still needs, in order of arrival.
        budget: tokens to give away.
        places: the sequence of each prompt.
        turn: number of the step.

    Returns:
        Tokens for each prompt, none more than it needs, together at most ``budget``.
    """
    given = [0] * len(pending)
    alike, shortest = [0] * len(pending), -_ALIKE
    for i in sorted(range(len(pending)), key=pending.__getitem__):
        if pending[i] - shortest >= _ALIKE:
            shortest = pending[i]
        alike[i] = shortest
    order = sorted(range(len(pending)), key=lambda i: (alike[i], places[i]))
    if turn % _OLDEST == 0:
        order.sort(key=bool)
    for i in order:
        if any(given) and pending[i] > budget:
            break
        given[i] = min(pending[i], budget)
        budget -= given[i]
    return given


class PromptBudget(ABC):
    """Chooses the prompt tokens of a step. Without running replies it takes as many as are computed at once.

    Args:
        most: tokens computed at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most

    def tokens(self, decoding: int, prompts: Sequence[int]) -> int:
        """Prompt tokens for a step; 0 to measure one without, or to wait for more prompts.

        Args:
            decoding: replies that get their next token in it.
            prompts: tokens that each prompt still needs.
        """
        room = max(0, self._most - decoding)
        return self._beside(decoding, prompts, room) if decoding else room

    @abstractmethod
    def _beside(self, decoding: int, prompts: Sequence[int], room: int) -> int:
        """The same beside running replies, where the computation has room for this many."""

    @abstractmethod
    def observe(self, decoding: int, prompt: int, seconds: float) -> None:
        """Take note of a step's time."""


class _Fixed(PromptBudget):
    """The same number beside replies in every step."""

    def __init__(self, most: int, fixed: int) -> None:
        super().__init__(most)
        self._fixed = fixed

    def _beside(self, decoding: int, prompts: Sequence[int], room: int) -> int:
        return min(self._fixed, room)

    def observe(self, decoding: int, prompt: int, seconds: float) -> None:
        """Times change nothing."""


class _Measured(PromptBudget):
    """As many beside replies as keep the step below about twice what it takes without, so that they never stall.

    The more slots wait for their prompt, compared to those that reply, the longer a step may take, because then more is
    lost by keeping them waiting.
    """

    def __init__(self, most: int, least: int) -> None:
        super().__init__(most)
        self._least = max(least, _GRAIN)
        self._alone: dict[int, tuple[float, int]] = {}
        self._seconds_a_token: float | None = None
        self._steps = 0

    def _beside(self, decoding: int, prompts: Sequence[int], room: int) -> int:
        alone, measured = self._alone.get(decoding, (0.0, -_FRESH))
        if self._steps - measured >= _FRESH:
            return 0
        if self._seconds_a_token is None:
            return min(max(_FIRST, self._least), room)
        stretch = max(_STRETCH, _WAITING * len(prompts) / decoding)
        tokens = int(stretch * alone / self._seconds_a_token)
        # The same number again and again lets llama.cpp keep the graph of the step before.
        return min(room, max(self._least, tokens // _GRAIN * _GRAIN))

    def observe(self, decoding: int, prompt: int, seconds: float) -> None:
        """Learn what a step takes without prompts, and what a prompt token adds."""
        self._steps += 1
        alone, measured = self._alone.get(decoding, (seconds, -_FRESH))
        if not prompt:
            fresh = self._steps - measured < _FRESH
            self._alone[decoding] = (alone + _NEW * (seconds - alone) if fresh else seconds, self._steps)
        else:
            cost = (seconds - (alone if decoding else 0.0)) / prompt
            if cost > 0:
                known = self._seconds_a_token
                self._seconds_a_token = cost if known is None else known + _NEW * (cost - known)


class _Gathered(PromptBudget):
    """Many prompts at once, and rarely.

    That is the shortest time on the whole, and the replies' pause for it is long but a rare one. A step that prompts
    fill is taken at once. Others are, when no more came in the step before, and while steps with prompts are not more
    frequent than the delay says.
    """

    def __init__(self, most: int, full: int, delay: int, batch: int, apart: bool) -> None:
        super().__init__(most)
        self._full, self._delay, self._batch, self._apart = full, delay, batch, apart
        self._saved, self._seen = _SAVED, 0

    def _beside(self, decoding: int, prompts: Sequence[int], room: int) -> int:
        full = min(self._full, max(0, self._batch - (0 if self._apart else decoding)))
        came, self._seen = len(prompts) - self._seen, len(prompts)
        # Enough are together when one more such prompt would not fit.
        enough = sum(prompts) + max(prompts) > full
        return full if enough or (came <= 0 and self._saved >= 1) else 0

    def observe(self, decoding: int, prompt: int, seconds: float) -> None:
        """Count the steps with prompts and those without."""
        if decoding:
            self._saved = max(0.0, self._saved - 1) if prompt else min(_SAVED, self._saved + 1 / self._delay)
        if prompt:
            self._seen = 0


def prompt_budget(
    most: int, fixed: int, least: int = 0, *, delay: int = 0, batch: int | None = None, apart: bool = False
) -> PromptBudget:
    """The policy that is asked for.

    Args:
        most: tokens computed at once.
        fixed: prompt tokens beside running replies, or 0 to choose.
        least: where they are chosen, the fewest beside running replies; fewer cost as much.
        delay: steps for each with prompts, on the average, where these do not fill them; 0 prompts do not wait.
        batch: most tokens of a step; None is ``most``.
        apart: these are prompt tokens only, and replies have room beside them.
    """
    if delay:
        batch = most if batch is None else batch
        return _Gathered(most, fixed or batch, delay, batch, apart)
    return _Fixed(most, fixed) if fixed else _Measured(most, least)


class RowPadding:
    """Adds rows that nobody reads where more rows take less time.

    Matrix products switch to another kernel at some number of rows; just below it a step can take longer than just
    above. The number depends on the device and the quantisation, so it is measured.
    """

    def __init__(self) -> None:
        self._best: dict[int, int] = {}

    def learn(self, seconds: Sequence[float]) -> None:
        """Take note of the time of a step with 1, 2, 3, ... rows."""
        for rows in range(1, len(seconds) + 1):
            best = min(range(rows, len(seconds) + 1), key=lambda r: seconds[r - 1])
            # Below 3 % it is noise.
            self._best[rows] = best if seconds[best - 1] < 0.97 * seconds[rows - 1] else rows

    def rows(self, rows: int) -> int:
        """The number of rows to evaluate where ``rows`` are needed."""
        return self._best.get(rows, rows)
