"""How many workers there are, counted node by node, and what is refused because it could never be placed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairsynth.config import ResourcesConfig
from fairsynth.engine.nodes import room_for, room_for_threads
from fairsynth.engine.session import Session
from fairsynth.errors import InfrastructureError

Cluster = Callable[..., None]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Says which nodes there are, as (CPUs, GPUs), and one that is dead beside them."""

    def of(*sizes: tuple[float, float], address: str = "10.0.0.1:6379") -> None:
        nodes = [{"Alive": True, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})} for cpus, gpus in sizes]
        monkeypatch.setattr("ray.nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64, "GPU": 64}}])
        monkeypatch.setattr(Session, "connect", lambda self: None)
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        monkeypatch.setenv("RAY_ADDRESS", address)

    return of


def count(**resources: float) -> int:
    return Session(ResourcesConfig.model_validate(resources)).worker().count


def test_a_worker_has_its_gpus_on_one_node(cluster: Cluster) -> None:
    cluster((8, 3), (8, 3))
    assert count(gpus_per_worker=2) == 2  # 6 of 6 by their sum, and a GPU of each node is left over
    assert count(gpus_per_worker=3) == 2 and count() == 6
    with pytest.raises(InfrastructureError, match=r"one worker needs 4 GPUs.* \(GPUs of the largest: 3\)"):
        count(gpus_per_worker=4)


def test_three_workers_of_two_gpus_are_refused_where_two_nodes_have_three_each(cluster: Cluster) -> None:
    cluster((8, 3), (8, 3))
    session = Session(ResourcesConfig(gpus_per_worker=2, workers_per_cluster=3))
    with pytest.raises(InfrastructureError, match=r"3 workers .* room for 2; lower resources\.workers_per_cluster or"):
        session.room(3, "resources.workers_per_cluster")
    room = session.room(2, "resources.workers_per_cluster")
    assert (room.workers, room.side_by_side) == (2, 1)


def test_parts_of_a_gpu_are_of_one_gpu(cluster: Cluster) -> None:
    cluster((16, 4))
    assert count(gpus_per_worker=0.4) == 8  # ten by their sum
    assert count(gpus_per_worker=0.3) == 12 and count(gpus_per_worker=0.1) == 16, "a worker has a CPU too"


def test_a_node_without_a_cpu_has_no_worker(cluster: Cluster) -> None:
    cluster((0, 4), (4, 0))
    with pytest.raises(InfrastructureError, match=r"a CPU of one node"):
        count(gpus_per_worker=1)


def test_a_cluster_that_starts_its_nodes_on_demand_is_taken_at_its_word(cluster: Cluster) -> None:
    cluster((2, 0))
    session = Session(ResourcesConfig(gpus_per_worker=2, workers=8))
    assert session.worker().count == 8 and session.room(3, "resources.workers_per_cluster").workers == 3


def test_cores_are_counted_on_each_node_and_one_stays_free_on_a_cluster(cluster: Cluster) -> None:
    cluster((3, 0), (3, 0))
    assert count(threads=2) == 2 and count(threads=3) == 1 and count() == 5
    assert Session(ResourcesConfig()).cpu_worker().count == 5
    cluster((4, 0), address="")
    assert count() == 2, "Ray was given more CPUs than this machine has"


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "workers"),
    [
        ([{"CPU": 4.0, "GPU": 4.0}], 1.0, 1.0, 4),
        ([{"CPU": 2.0, "GPU": 4.0}], 1.0, 1.0, 2),
        ([{"CPU": 9.0, "GPU": 1.0}] * 2, 1.0, 1 / 3, 6),
        ([{"CPU": 5.0}, {"CPU": 2.0}], 3.0, 0.0, 1),
        ([], 1.0, 0.0, 0),
    ],
)
def test_workers_that_fit(nodes: list[Mapping[str, float]], cpus: float, gpus: float, workers: int) -> None:
    assert room_for(nodes, cpus, gpus) == workers


def test_the_free_core_is_one_that_is_left_over() -> None:
    assert room_for_threads([{"CPU": 4.0}, {"CPU": 4.0}], 2, spare=True) == 3
    assert room_for_threads([{"CPU": 4.0}, {"CPU": 5.0}], 2, spare=True) == 4
    assert room_for_threads([{"CPU": 4.0}], 2, spare=False) == 2 and room_for_threads([], 2, spare=True) == 0


@pytest.fixture
def interrupted() -> Iterator[threading.Event]:
    """Whether the main thread was interrupted."""
    seen = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: seen.set())
    yield seen
    signal.signal(signal.SIGINT, before)


def test_a_loss_interrupts_the_main_thread_only_where_the_work_is_its_own(interrupted: threading.Event) -> None:
    error = InfrastructureError("gone")
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(Session, ResourcesConfig()).result()
        pool.submit(elsewhere._lose, error).result()
        assert not interrupted.wait(0.2) and elsewhere.lost is error
        here = Session(ResourcesConfig())
        pool.submit(here._lose, error).result()
        assert interrupted.wait(5) and here.lost is error
