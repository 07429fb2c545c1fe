"""Who takes the events of one shard in one event loop, and when?"""

import asyncio
import os
from collections.abc import Callable

from wsauth import _wsauth

# Events taken in one go; the loop serves others in between.
BATCH = 256

# asyncio cannot sleep for much longer than a day.
LONGEST = 86_400.0


class Pump:
    """Polls a shard when its descriptor is readable and when its next deadline comes.

    It works from callbacks: there is no task that could die or be cancelled alone.
    """

    def __init__(
        self,
        poll: Callable[[int, int], list[_wsauth.Event]],
        engine: _wsauth.Engine,
        shard: int,
        sink: Callable[[_wsauth.Event], None],
    ) -> None:
        self._poll = poll
        self._engine = engine
        self._shard = shard
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        # A duplicate of our own, so that two pumps and an application never share a registration.
        self._fd = os.dup(engine.fileno(shard))
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._loop.add_reader(self._fd, self.turn)
        self._timer = self._loop.call_soon(self.turn)

    def turn(self) -> None:
        """Takes what is due."""
        if self._fd < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events: list[_wsauth.Event] = []
        try:
            events = self._poll(self._shard, BATCH)
            for event in events:
                self._sink(event)
        finally:
            # Whatever went wrong, the next deadline must be kept.
            if self._fd >= 0:
                self._arm(len(events) >= BATCH)

    def _arm(self, more: bool) -> None:
        if more:
            self._timer = self._loop.call_soon(self.turn)
            return
        deadline = self._engine.next_deadline(self._shard)
        if deadline is not None:
            # One millisecond late rather than one early: early would come again at once.
            self._timer = self._loop.call_later(min(deadline + 0.001, LONGEST), self.turn)

    def stop(self) -> None:
        """Stops. The descriptor is given back."""
        if self._fd >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
