"""Time that is a number, and processes that stop between any two steps: a loop for simulations.

Nothing here sleeps. When nothing can run the loop moves its time to the next timer, so that a month
takes as long as what happens in it. One thread, one order: the same seed gives the same history.
"""

import asyncio
from asyncio import base_events
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: ContextVar["Process | None"] = ContextVar("PROCESS", default=None)


class Stuck(Exception):
    """Nothing can run and no timer is set."""


class Process:
    """Everything that runs in its context; kill and freeze act between any two callbacks."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: As after SIGKILL: nothing of it runs any more, no `finally` either.
        self.dead = False
        #: As after SIGSTOP: what should run waits for `thaw`.
        self.frozen = False
        self._held: list[_Step] = []
        self._context = copy_context()
        self._context.run(PROCESS.set, self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *work* as part of this process."""
        loop = asyncio.get_running_loop()
        return loop.create_task(work, context=self._context.copy())

    def kill(self) -> None:
        """Never run anything of it again."""
        self.dead = True
        self._held.clear()

    def freeze(self) -> None:
        """Hold everything back."""
        self.frozen = True

    def hold(self, step: "_Step") -> None:
        """Keep for later what should run now."""
        self._held.append(step)

    def thaw(self) -> None:
        """Go on with what was held back, in its order."""
        self.frozen = False
        held, self._held = self._held, []
        for step in held:
            asyncio.get_running_loop().call_soon(step, context=step.context)


class _Step:
    """One callback of a process: runs if the process may, and if nobody has canceled it."""

    __slots__ = ("args", "callback", "context", "handle", "process")

    def __init__(
        self, process: Process, callback: Callable[..., object], args: Any, context: Context
    ) -> None:
        self.process = process
        self.callback = callback
        self.args = args
        self.context = context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.process.dead or (self.handle is not None and self.handle.cancelled()):
            return
        if self.process.frozen:
            self.process.hold(self)
        else:
            self.callback(*self.args)


class VirtualLoop(base_events.BaseEventLoop):
    """An event loop whose time stands while something runs, and jumps when nothing can."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        self._clock_resolution = 1e-9
        #: Everything that was ever begun: a task that is thrown away would run its `finally`.
        self.tasks: list[asyncio.Task[Any]] = []
        self._over = False
        self.set_task_factory(self._task)

    def _task(self, loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        self.tasks.append(task)
        return task

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> tuple[()]:
        """Stand in for the selector: waiting is moving the time."""
        if timeout is None:
            raise Stuck("nothing can run, and nothing is set to run later")
        if timeout > 0:
            self._now = max(self._now, self._scheduled[0]._when)
        return ()

    def _process_events(self, _: object) -> None:
        """There are none from outside."""

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake this one."""

    def call_soon(
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context if context is not None else copy_context()
        if self._over:
            return asyncio.Handle(callback, args, self, context)
        process = context.get(PROCESS)
        if process is None or isinstance(callback, _Step):
            return super().call_soon(callback, *args, context=context)
        step = _Step(process, callback, args, context)
        step.handle = super().call_soon(step, context=context)
        return step.handle

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context if context is not None else copy_context()
        process = context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        step = _Step(process, callback, args, context)
        timer = super().call_at(when, step, context=context)
        step.handle = timer
        return timer

    def abandon(self) -> None:
        """Close; what was not over never will be, nor what its end would set off."""
        self._over = True
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False
                with suppress(BaseException):
                    task.get_coro().close()
        self.tasks.clear()
        self.close()
