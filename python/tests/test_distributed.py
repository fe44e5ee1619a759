"""Merges whose statistics come from a cluster, against those of one process."""

import os

import onnx_zip
import pytest

MODELS = ("lenet300_mnist_a", "lenet300_mnist_b")
QUICK = {"samples": 300, "no_compare": True, "share": 1, "runtime": "tract"}


@pytest.fixture(scope="module")
def models():
    from conftest import FIXTURES

    return {name[-1]: FIXTURES / "models" / f"{name}.onnx" for name in MODELS}


@pytest.fixture(scope="module")
def alone(models, samples):
    """The merge of three shards in one process."""
    return onnx_zip.merge(models, data=samples, shards=3, **QUICK).to_bytes()


class InProcess:
    """Workers of this process. They forget everything before every second request."""

    num_shards = 3

    def __init__(self):
        self.samples, self.workers, self.requests = [], [], []
        self.closed = False

    def start(self, nets):
        self.nets = nets

    def shard(self, samples):
        self.samples.append(samples)
        self.workers.append(self.worker(samples))

    def worker(self, samples):
        from onnx_zip import _native
        from onnx_zip._progress import listener

        return _native.NativeShardWorker(
            self.nets, samples, ["--runtime=tract"], listener(False)
        )

    def ask(self, request, begins):
        self.requests = [] if begins else self.requests
        if len(self.requests) % 2:
            self.workers = [self.worker(samples) for samples in self.samples]
            for worker in self.workers:
                for seen in self.requests:
                    worker.replay(seen)
        self.requests.append(request)
        for worker in self.workers:
            yield worker.answer(request)

    def close(self):
        self.closed = True


def test_workers_that_start_anew_reply_the_same(models, samples, alone):
    workers = InProcess()
    joint = onnx_zip.merge(models, data=samples, statistics=workers, **QUICK)
    assert joint.to_bytes() == alone
    assert workers.closed and len(workers.requests) > 3


def test_what_workers_raise_ends_the_merge(models, samples):
    class Broken(InProcess):
        def ask(self, request, begins):
            raise RuntimeError("the cluster is on fire")

    with pytest.raises(onnx_zip.errors.DataError, match="the cluster is on fire"):
        onnx_zip.merge(models, data=samples, statistics=Broken(), **QUICK)


@pytest.fixture
def cluster():
    """A Ray cluster of two nodes on this machine, and its second node."""
    # A busy machine takes longer to start a node than Ray waits by default. Ray reads this once.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "60")
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    size = {"object_store_memory": 100 << 20}
    try:
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False, **size}
        )
        node = cluster.add_node(num_cpus=2, **size)
        ray.init(address=cluster.address, log_to_driver=False)
    except Exception as error:
        pytest.skip(f"Ray does not start here: {error}")
    yield cluster, node
    ray.shutdown()
    cluster.shutdown()


def test_a_cluster_of_which_a_node_dies_makes_the_file_of_one_process(
    cluster, models, samples, alone
):
    from onnx_zip.distributed import RayStatistics

    class Unlucky(RayStatistics):
        """Loses a node in the middle."""

        replaced = 0

        def ask(self, request, begins):
            if len(self._requests) == 3:
                nodes, second = cluster
                nodes.remove_node(second, allow_graceful=False)
            yield from super().ask(request, begins)

        def _replace(self, number):
            self.replaced += 1
            return super()._replace(number)

    statistics = Unlucky(3, runtime="tract")
    joint = onnx_zip.merge(models, data=samples, statistics=statistics, **QUICK)
    assert joint.to_bytes() == alone
    assert statistics.replaced > 0


def test_samples_that_nodes_do_not_see_are_named(cluster, models, samples, tmp_path):
    import numpy as np
    from onnx_zip.distributed import RayStatistics

    path = tmp_path / "images.npz"
    np.savez(path, image=samples[0])

    class Hidden(RayStatistics):
        def start(self, nets):
            path.unlink()
            super().start(nets)

    with pytest.raises(onnx_zip.errors.DataError, match="images.npz"):
        onnx_zip.merge(models, data=path, statistics=Hidden(2, runtime="tract"), **QUICK)
