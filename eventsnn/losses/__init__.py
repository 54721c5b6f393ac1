"""Loss functions: arrays in, a scalar out, the mean over the batch.

The losses of the event mode take one of three inputs. Spike times are in ms, and `inf` means no
spike.

- First spike times of shape `(*batch, outputs)`: `time_mse`, `time_mae`, `ttfs_cross_entropy`,
  `accuracy_ttfs`.
- Spike trains of shape `(*trains, k)`: `van_rossum`, `soft_counts`, `spike_count`. A spike count
  has no gradient with respect to the spike times. `soft_counts` and `spike_count` therefore use a
  smooth count.
- Membrane potentials of shape `(*batch, outputs, times)`, time axis last: `max_voltage_ce`,
  `integrated_voltage_ce`.

All other losses score the discrete mode. They follow snnTorch 1.0.0 unless documented otherwise.
They take spikes or membrane potentials of shape `(time, *batch, outputs)`, time axis first, and
return float32 or higher precision. `jax.vmap(loss, (1, 0))(spikes, labels)` returns one loss per
sample.

In both modes labels are integers of shape `(*batch)`. The batch may have any number of axes, or
none.

Class weights multiply the loss of each sample by the weight of its class. The plain mean is then
taken, as in snnTorch's `ce_rate_loss`, `ce_count_loss` and `ce_max_membrane_loss`. snnTorch's
squared errors multiply along the wrong axis, and its `ce_temporal_loss` divides by the sum of the
weights.
"""

from .accuracy import accuracy_rate as accuracy_rate
from .accuracy import accuracy_temporal as accuracy_temporal
from .classes import sum_populations as sum_populations
from .counts import ce_count as ce_count
from .counts import ce_rate as ce_rate
from .counts import mse_count as mse_count
from .event_counts import soft_counts as soft_counts
from .event_counts import spike_count as spike_count
from .membranes import ce_max_membrane as ce_max_membrane
from .membranes import ce_membrane_sum as ce_membrane_sum
from .membranes import mse_membrane as mse_membrane
from .regularisers import l1_rate_sparsity as l1_rate_sparsity
from .regularisers import rate_range as rate_range
from .regularisers import target_rate as target_rate
from .temporal import ce_temporal as ce_temporal
from .temporal import first_spike_steps as first_spike_steps
from .temporal import mse_temporal as mse_temporal
from .temporal import spike_steps as spike_steps
from .times import time_mae as time_mae
from .times import time_mse as time_mse
from .trains import van_rossum as van_rossum
from .ttfs import accuracy_ttfs as accuracy_ttfs
from .ttfs import ttfs_cross_entropy as ttfs_cross_entropy
from .voltages import integrated_voltage_ce as integrated_voltage_ce
from .voltages import max_voltage_ce as max_voltage_ce
