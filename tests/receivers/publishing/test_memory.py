"""Bounds that many senders share."""

from __future__ import annotations

import asyncio

from weir.receivers.publishing.memory import FrameBudget, Seldom


def test_frames_beyond_the_ceiling_wait_but_one_may_always_finish() -> None:
    """Three connections with half a frame each fill the budget: one after the other finishes, none waits for ever."""
    finished: list[str] = []

    async def connection(budget: FrameBudget, name: str) -> None:
        for size in (40, 80, 120):
            await budget.admit(name)
            budget.update(name, size)
            assert budget.used <= 100 + 120
            await asyncio.sleep(0)
        finished.append(name)
        budget.update(name, 0)

    async def main() -> None:
        budget = FrameBudget(100)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for name in ("a", "b", "c"):
                group.create_task(connection(budget, name))
        assert budget.used == 0

    asyncio.run(main())
    assert sorted(finished) == ["a", "b", "c"]


def test_a_connection_that_goes_away_hands_its_privilege_on() -> None:
    async def main() -> None:
        budget = FrameBudget(100)
        budget.update("a", 60)
        budget.update("b", 60)
        await budget.admit("a")
        waiting = asyncio.create_task(budget.admit("b"))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.update("a", 0)
        async with asyncio.timeout(5):
            await waiting

    asyncio.run(main())


def test_it_is_known_for_how_long_others_wait_for_one_frame() -> None:
    async def main() -> None:
        budget = FrameBudget(100)
        budget.update("a", 60)
        await budget.admit("a")
        assert budget.exempt_for("a") is None, "nobody waits for it"
        budget.update("b", 60)
        await budget.admit("a")
        waited = budget.exempt_for("a")
        assert waited is not None
        assert 0 <= waited < 5
        assert budget.exempt_for("b") is None

    asyncio.run(main())


def test_a_frame_that_shrinks_below_the_ceiling_lets_others_go_on() -> None:
    async def main() -> None:
        budget = FrameBudget(100)
        budget.update("a", 120)
        waiting = asyncio.create_task(budget.admit("b"))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.update("a", 60)
        async with asyncio.timeout(5):
            await waiting

    asyncio.run(main())


def test_seldom_says_yes_once_a_period_and_forgets_the_oldest_key() -> None:
    now = [0.0]
    seldom = Seldom(10.0, lambda: now[0], keys=2)
    assert [seldom("a"), seldom("a"), seldom("b")] == [True, False, True]
    now[0] = 10.0
    assert seldom("a")
    assert seldom("c")  # "b" is forgotten
    assert seldom("b")
    assert not seldom("c")
