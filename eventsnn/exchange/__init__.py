r"""Exchange of models and spike trains with NIR, the Neuromorphic Intermediate Representation.

NIR (Pedersen et al., Nature Communications 15:8122, 2024) describes networks by equations in
continuous time. Times are in seconds. The package `nir` is an optional dependency, which is
imported at the first use of one of these functions.

**Event mode.** The node `CubaLIF`, and `CubaLI` without a threshold, has the equations

$$\tau_\text{syn} \dot I = -I + w_\text{in} S, \qquad
  \tau_\text{mem} \dot v = v_\text{leak} - v + r I.$$

The input $S(t) = \sum_k W \delta(t - t_k)$ is the output of a `Linear` node with the weights $W$,
of shape (receivers, sources), and $\delta$ is Dirac's impulse with the integral 1 s. A spike
therefore increments $I$ by $w_\text{in} W / \tau_\text{syn}$, and these are the equations of
[`eventsnn.LIF`][] and [`eventsnn.LeakyIntegrator`][] with

$$b = v_\text{leak}, \qquad I_\text{eventsnn} = r I, \qquad
  w = \frac{r\, w_\text{in}\, A}{\tau_\text{syn}} W^\top, \qquad A = 1\,\text{s}.$$

Time constants and delays are multiplied by the unit of time. `to_nir` writes $r = 1$ and
$w_\text{in} = \tau_\text{syn} / A$ in seconds, so that $w = W^\top$, also for readers that ignore
$w_\text{in}$. In simulators with a time step, a spike is usually 1 during one step $\Delta$ instead
of an impulse, so that $A = \Delta$: the argument `spike_area`. The initial state is not part of
NIR: a neuron starts at its reset potential, and an integrator at 0. A bias of an `Affine` node is
an input of the synapse, which has no counterpart in the event mode.

**Discrete-time mode.** With the time step $\Delta$ the forward Euler method gives

$$\beta = 1 - \frac{\Delta}{\tau_\text{mem}}, \qquad \alpha = 1 - \frac{\Delta}{\tau_\text{syn}},
  \qquad g = \frac{r \Delta}{\tau_\text{mem}} \frac{w_\text{in} \Delta}{\tau_\text{syn}},$$

with the factor $g$ of the input. The nodes `LIF` and `LI` have no synapse, and $g = r \Delta /
\tau$. `to_nir` writes $r = \tau_\text{mem} / \Delta$ and $w_\text{in} = \tau_\text{syn} / \Delta$,
so that $g = 1$. This is the mapping of snnTorch 1.0, whose step is $\Delta = 10^{-4}$ s. In
recurrent graphs, the feedback arrives one step after the spike.

snnTorch writes $v_\text{reset} = 0$ also for neurons with a reset by subtraction, or with a reset
one step after the spike, which NIR does not have: its graphs do not contain the reset.
"""

from .models import from_nir, to_nir
from .trains import from_event_data, to_event_data

__all__ = ["from_event_data", "from_nir", "to_event_data", "to_nir"]
