"""Random and regular connections between populations: the arrays of an [`eventsnn.Synapses`][].

A population is a number of neurons, a range, or an array of distinct indices. Sources are numbered
as the rows of a weight matrix: neurons first, then input channels. A network of excitatory and
inhibitory neurons and input channels consists of several connections, which [`join`][] puts
together:

```python
n_exc, n_inh, n_in = 8_000, 2_000, 500
n = n_exc + n_inh
keys = jax.random.split(jax.random.key(0), 3)
sources, targets = esn.connect.join(
    [
        esn.connect.fixed_in_degree(keys[0], range(n_exc), n, 800),
        esn.connect.fixed_in_degree(keys[1], range(n_exc, n), n, 200),
        esn.connect.fixed_probability(keys[2], range(n, n + n_in), n, 0.1),
    ]
)
weights = np.select([sources < n_exc, sources < n], [0.1, -0.5], 0.4)
synapses = esn.Synapses(sources, targets, weights, shape=(n + n_in, n), delays=1.5)
```

The rules are those of Senk et al., PLOS Computational Biology 18:e1010086, 2022, and of NEST. NEST
allows self-connections (autapses) and several synapses per pair (multapses) by default; here
neither is the default. Both options apply within one call: joined connections may have a pair in
common.

The random numbers are those of a NumPy generator whose seed is the key. Equal keys give equal
connections, with the same versions of NumPy and SciPy. Keys have to be known: the functions run
when a network is built. Their memory is proportional to the number of synapses.
"""

from .populations import Connections, join, one_to_one
from .rules import fixed_in_degree, fixed_probability
from .space import distance_dependent

__all__ = [
    "Connections",
    "distance_dependent",
    "fixed_in_degree",
    "fixed_probability",
    "join",
    "one_to_one",
]
