"""Arrays in, a scalar out: the mean over the batch.

Those of the event mode take spike times in ms, with `inf` where there is no spike: first spikes of
shape `(*batch, outputs)` (`time_mse`, `time_mae`, `ttfs_cross_entropy`, `accuracy_ttfs`), trains of
shape `(*trains, k)` (`van_rossum`), or potentials of shape `(*batch, outputs, times)`, the time
last (`max_voltage_ce`, `integrated_voltage_ce`). A number of spikes has no gradient with respect to
their times; `spike_count` and `soft_counts` take a smooth one instead.

All others score the discrete mode, with the semantics of snnTorch 1.0.0 where nothing else is said:
they take spikes or membranes of shape `(time, *batch, outputs)`, time first, and return float32 or
more. The loss of each sample alone is `jax.vmap(loss, (1, 0))(spikes, labels)`.

In both modes labels are integers of shape `(*batch)`, where the batch may have any number of axes
or none.

With class weights each sample's loss is multiplied by the weight of its class, and the plain mean
is taken. This is snnTorch's `ce_rate_loss`, `ce_count_loss` and `ce_max_membrane_loss`; its
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
