"""Names of the axes of a batch, over which a layer may average."""

#: The samples of a batch, an axis of `jax.vmap`.
SAMPLES = "batch"
#: The devices over which `train.fit` splits a batch, an axis of `jax.shard_map`.
DEVICES = "devices"

ALL = SAMPLES, DEVICES
