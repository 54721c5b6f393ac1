// One layer of LIF neurons, simulated by a loop over the arrivals of each sample, in closed form.
//
// It is the yardstick of the forward pass of eventsnn.EventLinear: same equations, same precision,
// one core. V' = (I - V) / tau_m, I' = -I / tau_s; a spike at V = 1 sets V to 0.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace {

struct Constants {
    double tau_m, tau_s, a;  // V(t) = (V - a I) exp(-t / tau_m) + a I exp(-t / tau_s)
};

// Time of the first crossing of 1 within h, or infinity.
double crossing(double v, double current, double h, const Constants& c) {
    const double slow = v - c.a * current, fast = c.a * current;
    double high = h;
    const double ratio = -slow * c.tau_s / (fast * c.tau_m);
    if (ratio > 0) {
        const double turn = -std::log(ratio) / (1 / c.tau_s - 1 / c.tau_m);
        if (turn > 0 && current > v) high = std::min(h, turn);
    }
    auto value = [&](double t, double& slope) {
        const double m = slow * std::exp(-t / c.tau_m), s = fast * std::exp(-t / c.tau_s);
        slope = -m / c.tau_m - s / c.tau_s;
        return m + s - 1;
    };
    double slope, low = 0, end = high, t = high;
    if (value(high, slope) < 0) return std::numeric_limits<double>::infinity();
    for (int i = 0; i < 60; ++i) {
        const double gap = value(t, slope);
        (gap < 0 ? low : end) = t;
        double next = t - gap / slope;
        if (!(next > low && next < end)) next = 0.5 * (low + end);
        if (std::abs(next - t) <= 1e-7 * (1 + t)) return next;
        t = next;
    }
    return t;
}

}  // namespace

// times: (batch, channels, spikes), infinity for none; weights: (channels, n); out: (batch, n,
// max_spikes), filled with the first spike times.
extern "C" void simulate(const float* times, const float* weights, float* out, int batch,
                         int channels, int spikes, int n, int max_spikes, float tau_m, float tau_s,
                         float t_max) {
    const Constants c{tau_m, tau_s, tau_s / (double(tau_s) - tau_m)};
    const float inf = std::numeric_limits<float>::infinity(), a = float(c.a);
    std::vector<std::pair<float, int>> arrivals;
    std::vector<float> v(n), current(n);
    std::vector<int> count(n), marked(n);
    std::fill(out, out + size_t(batch) * n * max_spikes, inf);
    for (int b = 0; b < batch; ++b) {
        arrivals.clear();
        for (int i = 0; i < channels * spikes; ++i) {
            const float t = times[size_t(b) * channels * spikes + i];
            if (t <= t_max) arrivals.emplace_back(t, i / spikes);
        }
        std::sort(arrivals.begin(), arrivals.end());
        std::fill(v.begin(), v.end(), 0.0f);
        std::fill(current.begin(), current.end(), 0.0f);
        std::fill(count.begin(), count.end(), 0);
        float now = 0;
        for (size_t k = 0; k <= arrivals.size(); ++k) {
            const float next = k < arrivals.size() ? arrivals[k].first : t_max, h = next - now;
            const float em = std::exp(-h / tau_m), es = std::exp(-h / tau_s), am = a * (es - em);
            const float per_m = h / tau_m;
            int many = 0;
            // Two passes, so that the first has vector instructions.
            for (int j = 0; j < n; ++j) {
                const float end = v[j] * em + current[j] * am;
                const bool rises = current[j] > v[j] && current[j] * es < end;
                const bool reaches = v[j] + (current[j] - v[j]) * per_m >= 1;
                marked[j] = (end >= 1) | (rises & reaches);
                many += marked[j];
            }
            if (many) {
                for (int j = 0; j < n; ++j) {
                    if (!marked[j]) continue;
                    double x = v[j], i = current[j], left = h;
                    for (;;) {
                        const double dt = crossing(x, i, left, c);
                        if (!(dt <= left)) break;
                        left -= dt;
                        i *= std::exp(-dt / tau_s);
                        x = 0;
                        if (count[j] < max_spikes)
                            out[(size_t(b) * n + j) * max_spikes + count[j]] = float(next - left);
                        ++count[j];
                    }
                    // The state at the start of the interval that leads to the same end.
                    const double s = i * std::exp(-left / tau_s);
                    const double m = (x - c.a * i) * std::exp(-left / tau_m) + c.a * s;
                    current[j] = float(s / es);
                    v[j] = float((m - double(am) * current[j]) / em);
                }
            }
            const float* row = k < arrivals.size() ? weights + size_t(arrivals[k].second) * n : nullptr;
            for (int j = 0; j < n; ++j) {
                v[j] = v[j] * em + current[j] * am;
                current[j] = current[j] * es + (row ? row[j] : 0.0f);
            }
            now = next;
        }
    }
}
