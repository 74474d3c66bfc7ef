"""A database hurt in every way we know, at random, under a shop that goes on sending: nothing lost, nothing doubled."""

import contextlib
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import show
from tests.support import conflicts, faults
from tests.support.faults import Business, CutAt, Postgres, Proxy, SmallDisk

FAULTS = 20
SEED = 20101201
DISK_MB = 1024
CONFLICTS_PER_FAULT = 50
"""Units of work that are made to conflict, for each fault of the other kinds."""


@dataclass(frozen=True, slots=True)
class World:
    """All that can be hurt. disk: None where no small file system can be mounted."""

    server: Postgres
    network: Proxy
    business: Business
    disk: SmallDisk | None
    draw: random.Random


def prove(n: int | None, seed: int | None) -> bool:
    """Hurt the database n times (20), and force conflicts. Returns whether all that was acknowledged is there once."""
    count, seed = n or FAULTS, SEED if seed is None else seed
    show.say(f"seed {seed}")
    counted: Counter[str] = Counter()
    slowest: Counter[str] = Counter()
    with _world(random.Random(seed)) as world:
        kinds = [kind for kind in _FAULTS if kind != "disk_full" or world.disk is not None]
        with show.progress("Faults", count) as tell:
            for number in range(count):
                # Each kind in its turn, so that a short run has them all; when and how is chance.
                kind = kinds[number % len(kinds)]
                time.sleep(world.draw.random())
                began = time.monotonic()
                _FAULTS[kind](world)
                world.business.is_well()
                counted[kind] += 1
                slowest[kind] = max(slowest[kind], round(time.monotonic() - began))
                tell(number + 1)
        stream = world.business.stream
        stream.stop()
        verdict = faults.judge(world.server.url(), world.business.market, stream)
        show.say(f"Forcing conflicts in {CONFLICTS_PER_FAULT * count} units of work.")
        forced = conflicts.disturb(world.server.url(), units=CONFLICTS_PER_FAULT * count, seed=seed)
    rows = [(kind, str(counted[kind]), f"{slowest[kind]} s") for kind in kinds]
    rows += [(f"forced {kind}", str(times), "") for kind, times in sorted(forced.forced.items())]
    show.table("Faults", ("kind", "times", "longest until all was well"), rows)
    for wrong in stream.wrong[:20]:
        show.say(f"wrong: {wrong}")
    seen = world.business.visitors.seen
    steady = set(seen["live"]) == {200} and set(seen["redirect"]) == {302}
    if not steady:
        show.say(f"The process or its redirects faltered: {seen}")
    holds = verdict.holds and not stream.wrong and steady and verdict.orders == len(stream.acknowledged)
    show.result(
        "faults",
        **{kind: counted[kind] for kind in _FAULTS},
        conflicts=forced.forced.total(),
        orders=len(stream.acknowledged),
        refused=stream.refused.total(),
        lost=verdict.lost,
        doubled=verdict.doubled,
        wrong=len(stream.wrong),
        findings=verdict.findings + forced.findings,
        conflicts_differ=int(not forced.same),
        leaked=forced.leaked,
    )
    return holds and forced.same and not forced.findings and not forced.leaked


@contextlib.contextmanager
def _world(draw: random.Random) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="koc-faults-"))
    try:
        with contextlib.ExitStack() as held:
            disk = None
            try:
                disk = held.enter_context(faults.small_disk(folder / "disk", size_mb=DISK_MB))
            except faults.CannotMount as error:
                show.say(f"No small file system can be mounted here, so no disk runs full: {error}")
            server = held.enter_context(faults.postgres(disk.folder if disk else folder))
            network = held.enter_context(Proxy(server.port))
            url = server.url(port=network.port)
            business = held.enter_context(faults.business(server, folder / "serve.log", url=url))
            yield World(server, network, business, disk, draw)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _restart(world: World) -> None:
    world.server.stop()
    world.business.stream.wait_for_refusal()
    world.server.start()


def _crash(world: World) -> None:
    world.server.crash()
    # Sometimes back before anybody is refused.
    if world.draw.random() < 0.5:
        world.business.stream.wait_for_refusal()
    world.server.start()


def _cut_connections(world: World) -> None:
    for _ in range(world.draw.randrange(1, 5)):
        world.server.cut_connections()
        world.business.stream.wait_for_more(1)


def _cut_network(world: World) -> None:
    for _ in range(world.draw.randrange(1, 5)):
        world.network.cut()
        world.business.stream.wait_for_more(1)


def _cut_commits(world: World) -> None:
    for _ in range(world.draw.randrange(1, 5)):
        world.network.cut_next_commit(world.draw.choice(tuple(CutAt)), after=world.draw.randrange(3))
        faults.wait_for("a commit is cut", lambda: world.network.cuts_left == 0)


def _silence(world: World) -> None:
    world.network.fall_silent()
    world.business.stream.wait_for_refusal()
    if world.draw.random() < 0.5:
        world.network.cut()
    world.network.speak()


def _fill_disk(world: World) -> None:
    assert world.disk is not None
    world.disk.fill()
    world.business.stream.wait_for_refusal()
    if world.draw.random() < 0.5:
        world.server.use_up_the_log()
        world.business.stream.wait_for_refusal()
    world.disk.clear()
    world.server.come_back()


_FAULTS: Mapping[str, Callable[[World], None]] = {
    "restarts": _restart,
    "crashes": _crash,
    "cuts": _cut_connections,
    "network_cuts": _cut_network,
    "commit_cuts": _cut_commits,
    "silences": _silence,
    "disk_full": _fill_disk,
}
