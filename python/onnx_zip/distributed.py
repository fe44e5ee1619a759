"""Merges whose samples are processed on many machines.

``merge(..., statistics=RayStatistics(num_shards=8))`` cuts the samples into shards, each with an actor on a
`Ray <https://docs.ray.io>`_ cluster. The joint model depends on the number of shards, but not on the cluster:
``merge(..., shards=8)`` makes the same file in one process. Clusters without Ray use
``merge(..., shards=8, workers=folder)`` and, on their machines, ``onnx_zip.worker(folder)``.
"""

from . import _native
from ._keywords import arguments
from ._progress import listener
from .errors import DataError

__all__ = ["RayStatistics"]

# After this many deaths of its actors during one request, a shard itself is the likely cause.
_MOST_DEATHS = 5


class _Worker:
    """One shard, in an actor."""

    def __init__(self, *given):
        # An error while an actor is made would count as its death, so the first request makes the worker.
        self._given = given
        self._made = None

    def _worker(self):
        if self._made is None:
            self._made = _native.NativeShardWorker(*self._given, listener(False))
        return self._made

    def answer(self, request):
        return self._worker().answer(request)

    def replay(self, request):
        self._worker().replay(request)


class RayStatistics:
    """Takes the statistics of a merge on a Ray cluster, one actor per shard of the samples.

    Uses the cluster that ``ray.init`` has connected to, or else starts a local one. Samples in files must be
    found under the same path on every node; arrays travel. An actor that dies, also with its node, is
    replaced by a new one, which repeats the requests so far.

    Parameters
    ----------
    num_shards : int
        The number of shards. The result depends on it, but not on the number of nodes.
    num_cpus : float, default: 1
        Cores that Ray reserves for each actor, which are also its threads where ``threads`` says nothing
        else.
    actor_options : dict, optional
        More options of the actors, such as ``num_gpus``, ``resources`` or ``runtime_env``.
    **runtime
        ``runtime``, ``device``, ``runtime_library`` and ``threads``, as of ``merge``, for the actors.
    """

    def __init__(self, num_shards, *, num_cpus=1, actor_options=None, **runtime):
        import ray

        self._ray = ray
        self.num_shards = int(num_shards)
        if self.num_shards < 1:
            raise ValueError("num_shards is a number from 1")
        runtime.setdefault("threads", max(1, int(num_cpus)))
        self._runtime = arguments("run", runtime)
        # Nodes take turns, so that shards are spread over the cluster.
        self._options = {
            "num_cpus": num_cpus,
            "scheduling_strategy": "SPREAD",
            **(actor_options or {}),
        }
        self._clear()

    def _clear(self):
        self._nets = None
        self._samples, self._actors, self._requests = [], [], []

    def start(self, nets):
        """Gives all shards the nets."""
        self.close()
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        self._nets = self._ray.put(nets)

    def shard(self, samples):
        """Gives the next shard its samples."""
        self._samples.append(self._ray.put(samples))
        self._actors.append(self._actor(len(self._samples) - 1))

    def _actor(self, number):
        worker = self._ray.remote(_Worker).options(**self._options)
        return worker.remote(self._nets, self._samples[number], self._runtime)

    def ask(self, request, begins):
        """Yields the replies of all shards in their order."""
        if begins:
            self._requests = []
        self._requests.append(self._ray.put(request))
        replies = [actor.answer.remote(self._requests[-1]) for actor in self._actors]
        for number, reply in enumerate(replies):
            yield self._reply(number, reply)

    def _reply(self, number, reply):
        errors = self._ray.exceptions
        for _ in range(_MOST_DEATHS):
            try:
                return self._ray.get(reply)
            except (errors.RayActorError, errors.ObjectLostError):
                reply = self._replace(number)
            except errors.RayTaskError as error:
                raise error.as_instanceof_cause() from None
        raise DataError(
            f"the workers of shard {number} have died {_MOST_DEATHS} times at one layer: give them more"
            " memory, or more shards"
        )

    def _replace(self, number):
        """Starts a new actor for a shard, repeats the requests so far, and returns its reply to the last."""
        actor = self._actors[number] = self._actor(number)
        *seen, last = self._requests
        for request in seen:
            actor.replay.remote(request)
        return actor.answer.remote(last)

    def close(self):
        """Ends the actors."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._clear()
