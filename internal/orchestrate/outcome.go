package orchestrate

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Outcome is where the time of a simulated run went. Its seconds are virtual.
type Outcome struct {
	Staleness int     `json:"staleness"` // the bound
	Seconds   float64 `json:"seconds"`   // of the whole run
	// StepSeconds is the whole run's time over its steps.
	StepSeconds float64 `json:"step_seconds"`
	// Occupancy is the share of slot time that had an episode, DecodingShare the share that sampled.
	Occupancy     float64 `json:"occupancy"`
	DecodingShare float64 `json:"decoding_share"`
	// LearnerIdleShare is the share of the time in which no step was trained or published.
	LearnerIdleShare float64 `json:"learner_idle_share"`
	TrainedGroups    int     `json:"trained_groups"`
	// DroppedGroups were too old to be trained.
	DroppedGroups int `json:"dropped_groups"`
	// MeanStaleness and MaxStaleness are over the trained groups.
	MeanStaleness float64 `json:"mean_staleness"`
	MaxStaleness  int     `json:"max_staleness"`
	// CappedShare is the share of finished episodes that the episode cap ended.
	CappedShare float64 `json:"capped_share"`
	// Cost is what deciding took.
	Cost Cost `json:"-"`
}

func (s *simulation) outcome() Outcome {
	out := Outcome{
		Staleness: s.config.Staleness, Seconds: s.now, StepSeconds: s.now / float64(s.config.Steps),
		TrainedGroups: s.groups, DroppedGroups: s.dropped, MaxStaleness: s.maxStaleness,
		MeanStaleness: share(float64(s.staleness), float64(s.groups)),
		CappedShare:   share(float64(s.capped), float64(s.played)),
	}
	held, decoding := 0.0, 0.0
	for _, p := range s.pools {
		p.advance(s.now)
		held += p.heldSeconds
		decoding += p.decodingSeconds
	}
	out.Occupancy = share(held, s.now*float64(s.config.Slots))
	out.DecodingShare = share(decoding, s.now*float64(s.config.Slots))
	out.LearnerIdleShare = 1 - share(s.learnerSeconds, s.now)
	out.Cost = s.cost
	return out
}

// share is part over whole; 0 of nothing.
func share(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return part / whole
}

// Cost is what deciding took: the machine alone, without what carries its commands out.
type Cost struct {
	Events   int           `json:"events"`
	Commands int           `json:"commands"`
	Controls int           `json:"controls"` // control objects among the commands
	Elapsed  time.Duration `json:"elapsed"`  // in the machine; 0 when not measured
	// StateBytes and ControlBytes are the largest that the machine's state and a control object were
	// whenever a step began, as JSON; 0 when not measured.
	StateBytes   int `json:"state_bytes"`
	ControlBytes int `json:"control_bytes"`
}

// step lets the machine decide on one event, and takes down what that costs.
func (s *simulation) step(event runstate.Event) []runstate.Command {
	clock := s.config.Clock
	if clock == nil {
		return s.machine.Step(s.time(), event)
	}
	now, began := s.time(), clock()
	commands := s.machine.Step(now, event)
	s.cost.Elapsed += clock() - began
	s.cost.Events++
	s.cost.Commands += len(commands)
	for _, command := range commands {
		switch c := command.(type) {
		case runstate.PublishControl:
			s.cost.Controls++
			s.control = c.Control
		case runstate.TrainStep:
			s.cost.StateBytes = max(s.cost.StateBytes, jsonBytes(s.machine.State()))
			s.cost.ControlBytes = max(s.cost.ControlBytes, jsonBytes(s.control))
		}
	}
	return commands
}

// jsonBytes is the length of a value as JSON.
func jsonBytes(value any) int {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("a value of plain data does not encode: %v", err))
	}
	return len(data)
}
