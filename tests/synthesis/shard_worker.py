"""A worker process for the tests: writes a data set, slowly where it is told to, and counts."""

import sys
import time
from pathlib import Path

from hyperface_jax.synthesis.manifest import ImageFigures
from hyperface_jax.synthesis.shards import DataSet, ShardPlan
from hyperface_jax.synthesis.writer import run_shards


def data_set(path, *, format="webdataset", num_ids=6, shard_size=7):
    plan = ShardPlan(num_ids=num_ids, images_per_id=5, shard_size=shard_size)
    return DataSet(path=Path(path), plan=plan, settings={"seed": 3}, format=format)


def image(identity, sample):
    return f"image {identity} {sample} ".encode() * (20 + 7 * sample)


def write_shard(writer, pause=0.0):
    for identity, sample in zip(*(a.tolist() for a in writer.images), strict=True):
        which = {"identity": identity, "sample": sample}
        figures = ImageFigures(3, 0, 0.9, 0.8)
        if (identity + sample) % 9 == 8:
            writer.reject(**which, figures=figures)
        else:
            writer.add(**which, image=image(identity, sample), suffix="png", figures=figures)
        time.sleep(pause)


def main(path, kind, pause):
    found = data_set(path, format=kind)
    found.claim()
    written = []

    def write_one(writer):
        write_shard(writer, float(pause))
        written.append(writer.shard)
        print("wrote", writer.shard, flush=True)

    print("began", flush=True)
    run_shards(found, found.plan.order(0, 1), write_one)


if __name__ == "__main__":
    main(*sys.argv[1:])
