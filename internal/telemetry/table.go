package telemetry

import (
	"fmt"
	"strings"
)

// Prefix begins the name of every metric of ours.
const Prefix = "turnwise_"

// Kind is what sort of metric it is.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Metric is one line of the [Table].
type Metric struct {
	// Name goes without the [Prefix].
	Name string
	Kind Kind
	// Labels are in the order in which values are given. A metric of a run has the run first.
	Labels []string
	Help   string
	// Buckets are the upper bounds of a histogram; nil otherwise.
	Buckets []float64
}

// Full is the metric's name as it is scraped.
func (m Metric) Full() string { return Prefix + m.Name }

// ofRun says whether the metric's series belong to runs.
func (m Metric) ofRun() bool { return m.Labels[0] == runLabel }

// Labels that are used in more than one place.
const (
	runLabel = "run"
	// deviceLabel and uuidLabel both are the device's UUID: the second is what NVIDIA's DCGM exporter calls it.
	deviceLabel = "device"
	uuidLabel   = "UUID"
)

var (
	ofRun      = []string{runLabel}
	ofLearner  = []string{runLabel, "method"}
	ofDevice   = []string{deviceLabel, uuidLabel, "kind"}
	andReason  = []string{deviceLabel, uuidLabel, "kind", "reason"}
	spans      = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800}
	generation = []float64{0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32}
)

// Table lists every metric of ours. Counters begin at 0 with the process; what is counted is counted by the
// process that made it durable, at most once.
var Table = []Metric{
	{Name: "groups_total", Kind: Counter, Labels: []string{runLabel, "phase", "reason"},
		Help: "Groups that came to a phase: ready (in the store), trained, or dropped for a reason."},
	{Name: "turns_total", Kind: Counter, Labels: []string{runLabel, "env", "tool"},
		Help: "Turns of training episodes that were recorded, by the tool of the first call: none without a call, unknown when it names no tool."},
	{Name: "tokens_total", Kind: Counter, Labels: []string{runLabel, "kind"},
		Help: "Tokens of training episodes that the policy sampled or observed (prompt and answers of tools), and sampled tokens that steps trained, those of demonstrations too."},
	{Name: "episode_failures_total", Kind: Counter, Labels: []string{runLabel, "reason"},
		Help: "Attempts at episodes that have no trajectory, by the kind of the failure."},
	{Name: "rollout_seconds", Kind: Histogram, Labels: []string{runLabel, "phase", "tool"}, Buckets: spans,
		Help: "How long a turn's sampling, a tool call, or a whole episode without the time it was held took; tool is empty but for phase tool."},
	{Name: "weights_publish_seconds", Kind: Histogram, Labels: ofRun, Buckets: spans,
		Help: "How long a rollout loop took to read and load a new version of the weights."},
	{Name: "weights_ack_lag_versions", Kind: Gauge, Labels: ofRun,
		Help: "How many versions the weights in use by a rollout loop of this process are behind those published."},
	{Name: "policy_version", Kind: Gauge, Labels: ofLearner,
		Help: "Last step committed, by the learner that committed it."},
	{Name: "reward", Kind: Gauge, Labels: ofLearner,
		Help: "Mean reward of the last step's trajectories."},
	{Name: "success_ratio", Kind: Gauge, Labels: ofLearner,
		Help: "Share of the last step's trajectories that the verifier accepts in full."},
	{Name: "advantage_abs", Kind: Gauge, Labels: ofLearner,
		Help: "Mean absolute advantage of the last step's sampled tokens."},
	{Name: "clip_ratio", Kind: Gauge, Labels: ofLearner,
		Help: "Share of the last step's sampled tokens whose surrogate was clipped."},
	{Name: "behavior_kl", Kind: Gauge, Labels: ofLearner,
		Help: "k3 estimate of KL(behavior to current) per sampled token in the last step, in nats."},
	{Name: "entropy", Kind: Gauge, Labels: ofLearner,
		Help: "Mean policy entropy per sampled token in the last step, in nats."},
	{Name: "grad_norm", Kind: Gauge, Labels: ofLearner,
		Help: "Mean norm of the gradient before clipping over the last step's updates."},
	{Name: "staleness_versions", Kind: Histogram, Labels: ofRun, Buckets: generation,
		Help: "For each trajectory trained, how many versions its oldest token was behind the weights that the step began with."},
	{Name: "learner_step_seconds", Kind: Histogram, Labels: []string{runLabel, "part"}, Buckets: spans,
		Help: "Where a step's time went: wait, credit, pack, forward, loss, backward, optim, publish (storing and committing)."},
	{Name: "evaluation_version", Kind: Gauge, Labels: ofRun,
		Help: "Last version evaluated by this process."},
	{Name: "evaluation_success_ratio", Kind: Gauge, Labels: []string{runLabel, "env"},
		Help: "Share of held-out tasks that the last version evaluated by this process solved."},

	{Name: "gpu_info", Kind: Gauge, Labels: []string{deviceLabel, uuidLabel, "kind", "host", "model", "index"},
		Help: "1 for each device of this machine; kind cpu is the machine's processors and memory together."},
	{Name: "gpu_health", Kind: Gauge, Labels: []string{deviceLabel, uuidLabel, "kind", "health"},
		Help: "1 with the device's health in the device pool; none while the pool has not been heard."},
	{Name: "gpu_lease_info", Kind: Gauge, Labels: []string{deviceLabel, uuidLabel, "kind", runLabel, "role"},
		Help: "1 for each run and role that has a lease on the device from this process's agent."},
	{Name: "gpu_busy_ratio", Kind: Gauge, Labels: ofDevice,
		Help: "Share of the last sample period in which the device had work."},
	{Name: "gpu_memory_used_bytes", Kind: Gauge, Labels: ofDevice, Help: "Memory in use on the device, by anybody."},
	{Name: "gpu_memory_total_bytes", Kind: Gauge, Labels: ofDevice, Help: "The device's own memory."},
	{Name: "gpu_power_watts", Kind: Gauge, Labels: ofDevice, Help: "Power that the device draws."},
	{Name: "gpu_power_limit_watts", Kind: Gauge, Labels: ofDevice, Help: "Power that the device may draw."},
	{Name: "gpu_energy_joules_total", Kind: Counter, Labels: ofDevice, Help: "Energy that the device has used since its driver was loaded."},
	{Name: "gpu_temperature_celsius", Kind: Gauge, Labels: ofDevice, Help: "Temperature of the device."},
	{Name: "gpu_memory_temperature_celsius", Kind: Gauge, Labels: ofDevice, Help: "Temperature of the device's memory."},
	{Name: "gpu_clock_hertz", Kind: Gauge, Labels: ofDevice, Help: "Clock of the device's multiprocessors."},
	{Name: "gpu_throttled", Kind: Gauge, Labels: andReason, Help: "1 for each reason for which the device's clocks are held down now."},
	{Name: "gpu_ecc_errors_total", Kind: Counter, Labels: andReason,
		Help: "Memory errors since the driver was loaded, corrected and uncorrected."},
	{Name: "gpu_xid_total", Kind: Counter, Labels: []string{deviceLabel, uuidLabel, "kind", "xid"},
		Help: "XID errors of the driver that this process's agent was told of."},
}

// Documentation is the [Table] as Markdown.
func Documentation() string {
	var out strings.Builder
	out.WriteString("| metric | kind | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range Table {
		fmt.Fprintf(&out, "| `%s` | %s | `%s` | %s |\n", m.Full(), m.Kind, strings.Join(m.Labels, "` `"), m.Help)
	}
	return out.String()
}
