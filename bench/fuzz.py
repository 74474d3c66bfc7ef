"""Hostile requests, thousands of them, against the real service: no crash, no answer that its description does not have."""

import random
import shutil
import subprocess
import tempfile
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests

from bench import fuzz_mutate, fuzz_shops, fuzz_wire, show
from bench.fuzz_contract import Answer, Contract
from bench.fuzz_schema import Generated, Generator, plain
from bench.fuzz_wire import Request
from bench.fuzz_world import COUPON, ID, World, chunks
from bench.serve import HOST, Database, Server, database, environment, koc, new_secret_key, operator, service

REQUESTS = 50_000
SEED = 20101201
ROUND = 2_000
"""Requests after which a new merchant is made, so that what one round broke does not shield the next."""
BY_SCHEMA = 0.25
"""What part of each round schemathesis makes."""
WEBHOOKS = 0.3
"""What part of the rest are webhooks."""
WIRE = 0.25
"""What part of the rest are bytes that are hardly HTTP."""
UNCHANGED = 0.15
"""What part of those to be mutated is sent as it is, so that there is something new to ask for."""
UNSIGNED = 0.15
"""What part of the webhooks are signed with another secret."""
CORPUS_MAX = 12
"""Good requests of an operation that are kept to be mutated."""
SHOWN_MAX = 20
TRACE_SHOWN = 1500
"""Characters of a trace that are shown: its end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that must not be. line: what makes it again."""

    about: str
    complaint: str
    line: str


@dataclass(slots=True)
class Run:
    """One run: what was sent, what came back, what was wrong."""

    server: Server
    contract: Contract
    world: World
    draw: random.Random
    corpus: dict[str, deque[Request]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    reached: set[str] = field(default_factory=set)
    """Operations that answered 2xx or 3xx."""
    understood: Counter[str] = field(default_factory=Counter)
    """Webhooks that were let in, by platform."""
    failures: list[Failure] = field(default_factory=list)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def keep(self, request: Request) -> None:
        """Keep a good request, to be mutated later."""
        operation = self.contract.find(request.method, request.target)
        if operation is not None:
            self.corpus.setdefault(operation.id, deque(maxlen=CORPUS_MAX)).append(request)

    def send(self, kind: str, request: Request) -> Answer | None:
        """Send one request over a connection of its own and judge what comes back. None where nothing did."""
        self.sent[kind] += 1
        outcome, complaint = self._try(request.wire())
        answer = outcome.answers[-1] if outcome.answers else None
        if complaint is not None:
            self._failed(request, complaint)
        if answer is not None:
            self._seen(request, answer)
        return answer

    def send_bytes(self, kind: str, data: bytes) -> None:
        """Send bytes that may be anything."""
        self.sent[kind] += 1
        outcome, complaint = self._try(data)
        for answer in outcome.answers:
            self.statuses[answer.status] += 1
        if complaint is None or self._known("bytes", complaint):
            return
        data = fuzz_wire.smallest(data, lambda one: self._try(one)[1] == complaint)
        line = fuzz_wire.printf(data[:2000], HOST, self.server.port)
        self.failures.append(Failure("bytes", complaint, line))

    def judge(self, generated: Generated, answer: Answer, complaint: str | None) -> None:
        """Judge what schemathesis sent itself. complaint: what its own checks have to say."""
        self.sent["schemathesis"] += 1
        request = generated.request
        wrong = self.contract.complaint(request.method, request.target, answer) or complaint
        if wrong is not None:
            self._failed(request, wrong)
        self._seen(request, answer)

    def _seen(self, request: Request, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if answer.status < 400:
            self.world.learn(answer.body)
            operation = self.contract.find(request.method, request.target)
            if operation is not None:
                self.reached.add(operation.id)

    def _try(self, data: bytes) -> tuple[fuzz_wire.Outcome, str | None]:
        outcome = fuzz_wire.exchange(HOST, self.server.port, data)
        if outcome.silent:
            return outcome, "no answer, and the connection stays open"
        asked = [*outcome.told.requests, *[("", "")] * len(outcome.answers)]
        for (method, target), answer in zip(asked, outcome.answers, strict=False):
            complaint = self.contract.complaint(method, target, answer)
            if complaint is not None:
                return outcome, complaint
        return outcome, "no answer" if outcome.lost else None

    def _failed(self, request: Request, complaint: str) -> None:
        operation = self.contract.find(request.method, request.target)
        about = operation.id if operation else request.target[:80]
        if self._known(about, complaint):
            return
        small = fuzz_wire.smallest_request(request, lambda one: self._try(one.wire())[1] == complaint)
        self.failures.append(Failure(about, complaint, small.curl(self.server.url)[:2000]))

    def _known(self, about: str, complaint: str) -> bool:
        """Count a failure; whether one like it has been kept, or enough of them."""
        self.failed[about, complaint] += 1
        return self.failed[about, complaint] > 1 or len(self.failures) >= SHOWN_MAX


def prove(n: int | None, seed: int | None) -> bool:
    """Send n hostile requests (50,000). Returns whether each answer was as described and the books are clean."""
    count, seed = n or REQUESTS, SEED if seed is None else seed
    show.say(f"seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="koc-fuzz-"))
    try:
        log = folder / "service.log"
        secret_key = new_secret_key()
        with database() as postgres:
            with service(postgres.url, secret_key=secret_key, log=log) as server:
                run = _begun(server, postgres, secret_key, random.Random(seed))
                _fuzz(run, count, seed)
                alive = server.process.poll() is None and requests.get(f"{server.url}/readyz", timeout=60).ok
            clean = _books_are_clean(postgres, secret_key)
        return _told(run, seed, alive=alive, clean=clean, traces=_traces(log))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begun(server: Server, postgres: Database, secret_key: str, draw: random.Random) -> Run:
    document = requests.get(f"{server.url}/openapi.json", timeout=60).json()
    kinds = {each["code"]: each["status"] for each in requests.get(f"{server.url}/problems", timeout=60).json()}
    contract = Contract(document, kinds)
    world = World(server.url, contract, lambda: operator(postgres.url, secret_key=secret_key), draw)
    run = Run(server, contract, world, draw)
    world.given = lambda prepared: run.keep(plain(prepared))
    return run


def _fuzz(run: Run, count: int, seed: int) -> None:
    generator = Generator(run.contract.document, run.server.url)
    with show.progress("Requests", count) as tell:
        for number, size in enumerate(chunks(count, ROUND)):
            run.world.renew()
            by_schema = round(size * BY_SCHEMA)
            made = generator.generate(
                by_schema, seed=seed + number, change=run.world.an_id_like, place=run.world.a_place
            )
            for generated in made:
                _by_schema(run, generator, generated)
                tell(run.sent.total())
            while run.sent.total() < number * ROUND + size:
                _by_hand(run)
                tell(run.sent.total())


def _by_schema(run: Run, generator: Generator, generated: Generated) -> None:
    operation = run.contract.find(generated.request.method, generated.request.target)
    key = run.world.key_for(operation)
    generated, answer, complaint = generator.send(generated, key)
    if answer.status == 401 and key and not run.world.alive():
        run.world.renew()
    run.judge(generated, answer, complaint)
    if not generated.is_hostile:
        run.keep(generated.request)


def _by_hand(run: Run) -> None:
    chance = run.draw.random()
    if chance < WEBHOOKS:
        _webhook(run)
        return
    request = _good(run)
    if chance < WEBHOOKS + WIRE:
        run.send_bytes("bytes", fuzz_mutate.mutated_wire(request, _good(run), run.draw))
        return
    if run.draw.random() >= UNCHANGED:
        request = fuzz_mutate.mutated_request(request, run.draw)
    answer = run.send("mutated", request)
    # One that is refused for its key may have been revoked by an earlier request.
    if answer is not None and answer.status == 401 and run.draw.random() < 0.2 and not run.world.alive():
        run.world.renew()


def _good(run: Run) -> Request:
    """A request as it should be, about things that are there, with a key that may."""
    operation = run.draw.choice(run.contract.operations)
    kept = run.corpus.get(operation.id)
    if not kept:
        return Request(operation.method, operation.path.replace("{", "").replace("}", ""), ())
    request = run.draw.choice(list(kept))
    path, mark, query = request.target.partition("?")
    path = "/".join(run.world.an_id_like(step) for step in path.split("/"))
    headers = [(name, value) for name, value in request.headers if name.lower() != "authorization"]
    key = run.world.key_for(operation)
    if key:
        headers.append(("authorization", f"Bearer {key}"))
    return replace(request, target=path + mark + query, headers=tuple(headers), body=_about_known(run, request.body))


def _about_known(run: Run, body: bytes) -> bytes:
    """A body with the ids in it replaced by known ones: those of an earlier merchant lead nowhere."""
    return ID.sub(lambda found: run.world.an_id_like(found[0]), body.decode("utf-8", "surrogateescape")).encode(
        "utf-8", "surrogateescape"
    )


def _webhook(run: Run) -> None:
    platform = run.draw.choice(sorted(run.world.sources))
    source = run.world.sources[platform]
    topic, event = run.draw.choice(fuzz_shops.bodies(platform, coupon=COUPON, draw=run.draw))
    chance = run.draw.random()
    body = fuzz_shops.as_bytes(event)
    if chance < 0.75:
        body = fuzz_mutate.mutated_json(event, run.draw)
    elif chance < 0.9:
        body = fuzz_mutate.mutated_bytes(body, run.draw)
    secret = source.secret if run.draw.random() >= UNSIGNED else source.secret[:-4] + "AAAA"
    headers = fuzz_shops.signed(secret, body, delivery=f"fuzz-{run.draw.getrandbits(40):x}", topic=topic)
    answer = run.send("webhooks", Request("POST", source.path, tuple(headers), body))
    if answer is not None and answer.status in {200, 202}:
        run.understood[platform] += 1
    if answer is not None and answer.status == 404:
        # The fuzzing has disabled the source.
        run.world.renew()


def _books_are_clean(postgres: Database, secret_key: str) -> bool:
    env = environment(postgres.url, secret_key=secret_key, port=1)
    answer = subprocess.run(koc("check-books", "--every"), env=env, capture_output=True, text=True, check=False)
    show.say(f"koc check-books --every: {(answer.stdout.strip() or answer.stderr.strip())[-600:]}")
    return answer.returncode == 0


def _traces(log: Path) -> Counter[str]:
    """Errors that the service did not expect, by how their traces end."""
    with log.open(errors="replace") as lines:
        return Counter(line.rstrip()[-TRACE_SHOWN:] for line in lines if "Traceback" in line)


def _told(run: Run, seed: int, *, alive: bool, clean: bool, traces: Counter[str]) -> bool:
    for failure in run.failures:
        times = run.failed[failure.about, failure.complaint]
        show.say(f"\n{failure.about}: {failure.complaint} ({times} times, seed {seed})\n{failure.line}")
    for trace, times in traces.most_common(5):
        show.say(f"\nIn the log of the service, {times} times: …{trace}")
    unheard = sorted(set(run.world.sources) - set(run.understood))
    for platform in unheard:
        show.say(f"No webhook of {platform} was let in: teach bench/fuzz_shops.py how it signs.")
    unreached = sorted({operation.id for operation in run.contract.operations} - run.reached)
    if unreached:
        show.say(f"Never answered 2xx or 3xx: {', '.join(unreached)}")
    rows = [(str(status), f"{times:,}") for status, times in sorted(run.statuses.items())]
    show.table("Answers", ("status", "times"), rows)
    if not alive:
        show.say("The service does not answer any more.")
    failures = run.failed.total()
    show.result(
        "fuzz",
        n=run.sent.total(),
        **{kind: run.sent[kind] for kind in ("schemathesis", "mutated", "webhooks", "bytes")},
        operations=len(run.contract.operations),
        reached=len(run.reached),
        webhooks_kept=run.understood.total(),
        refused_503=run.statuses[503],
        merchants=run.world.made,
        traces=traces.total(),
        alive=int(alive),
        books_clean=int(clean),
        failures=failures + traces.total() + len(unheard) + int(not alive) + int(not clean),
    )
    return alive and clean and not failures and not traces and not unheard
