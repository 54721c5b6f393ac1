"""Loss functions of spikes, spike times and membrane potentials.

Each loss returns a scalar, the mean over the batch (`l1_rate_sparsity`: a sum). Names have the
order `<loss>_<quantity>`: `ce_ttfs` is the cross entropy of the first spike times (TTFS: time to
first spike). The same quantity has one name per mode, because the arguments differ: `ce_ttfs` takes
exact times and `ce_temporal` spikes per time step; `ce_max_potential` takes the result of
`EventNetwork.potentials_at`, and `ce_max_membrane` the field `membranes` of a discrete-time run.

| quantity | event mode | discrete-time mode |
|---|---|---|
| first spike time (classes) | `ce_ttfs`, `accuracy_ttfs` | `ce_temporal`, `accuracy_temporal` |
| spike times | `mse_time`, `mae_time`, `van_rossum` | `mse_temporal` |
| spike counts and rates | `mse_soft_count` | `ce_rate`, `ce_count`, `mse_count`, `accuracy_rate` |
| maximal membrane potential | `ce_max_potential` | `ce_max_membrane` |
| membrane potential over time | `ce_integrated_potential` | `ce_membrane`, `mse_membrane` |
| activity, added to a loss | | `l1_rate_sparsity`, `target_rate`, `rate_range` |

The losses of the event mode take one of three inputs. Spike times and the arguments of a loss have
one unit, that of the time constants (ms in the examples). `inf` means no spike.

- First spike times of shape `(*batch, outputs)`: `ce_ttfs`, `accuracy_ttfs`, `mse_time`,
  `mae_time`.
- Spike trains of shape `(*trains, k)`: `van_rossum`, and `mse_soft_count` with its smooth count
  `soft_counts`. A spike count itself has no gradient with respect to the spike times.
- Membrane potentials of shape `(*batch, outputs, times)`, time axis last: `ce_max_potential`,
  `ce_integrated_potential`.

The losses of the discrete-time mode follow snnTorch 1.0.0 unless documented otherwise, and have its
names without the suffix `_loss`. They take the fields `spikes` or `membranes` of a run, of shape
`(time, *batch, outputs)`, time axis first, and return float32 or higher precision.
`jax.vmap(loss, (1, 0))(spikes, labels)` returns one loss per sample.
With `lengths`, the number of steps of each sample, what follows the end of a sample has no effect,
and each sample counts as if it were alone.

In both modes labels are integers of shape `(*batch)`. The batch may have any number of axes, or
none.

Class weights multiply the loss of each sample by the weight of its class. The plain mean is then
taken, as in snnTorch's `ce_rate_loss`, `ce_count_loss` and `ce_max_membrane_loss`. snnTorch's
squared errors multiply along the wrong axis, and its `ce_temporal_loss` divides by the sum of the
weights.
"""

from .accuracy import accuracy_rate, accuracy_temporal
from .classes import sum_populations
from .counts import ce_count, ce_rate, mse_count
from .event_counts import mse_soft_count, soft_counts
from .membranes import ce_max_membrane, ce_membrane, mse_membrane
from .potentials import ce_integrated_potential, ce_max_potential
from .regularisers import l1_rate_sparsity, rate_range, target_rate
from .temporal import ce_temporal, first_spike_steps, mse_temporal, spike_steps
from .times import mae_time, mse_time
from .trains import van_rossum
from .ttfs import accuracy_ttfs, ce_ttfs

__all__ = [
    "accuracy_rate",
    "accuracy_temporal",
    "accuracy_ttfs",
    "ce_count",
    "ce_integrated_potential",
    "ce_max_membrane",
    "ce_max_potential",
    "ce_membrane",
    "ce_rate",
    "ce_temporal",
    "ce_ttfs",
    "first_spike_steps",
    "l1_rate_sparsity",
    "mae_time",
    "mse_count",
    "mse_membrane",
    "mse_soft_count",
    "mse_temporal",
    "mse_time",
    "rate_range",
    "soft_counts",
    "spike_steps",
    "sum_populations",
    "target_rate",
    "van_rossum",
]
