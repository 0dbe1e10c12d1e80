package journal

import "github.com/turnwise-rl/turnwise/rollout"

// story is everything recorded of one episode, in the order of tenures and of the entries in each.
type story struct {
	wanted bool // the turns are kept
	events []event
}

// event is an entry with its tenure: turn is set for a finished turn, failed for a failed attempt, and
// neither for a begun turn.
type event struct {
	tenure int
	alive  bool
	Begin
	turn   *Turn
	failed *Failed
}

// try tells attempts apart.
type try struct{ tenure, attempt int }

func (e event) try() try { return try{e.tenure, e.Attempt} }

// void returns how many of the first events do not count any more: those before the last attempt that
// discarded what others had finished.
func (s *story) void() int {
	void, discarding := 0, try{}
	for i, e := range s.events {
		if e.Discarded > 0 && e.try() != discarding {
			void, discarding = i, e.try()
		}
	}
	return void
}

// past is how far the episode is.
func (s *story) past(episode Episode) Past {
	turns, ended := s.turns()
	past := Past{Attempts: s.attempts(episode, ended)}
	if s.wanted {
		past.Turns = turns
	}
	return past
}

// turns are those that stand, and the attempt that ended the episode with the last of them, if one did.
func (s *story) turns() (turns []Turn, ended try) {
	context := Begun
	for events := s.events[s.void():]; ; {
		e := following(events, len(turns), context, s.wanted)
		if e == nil {
			return turns, try{}
		}
		turns = append(turns, *e.turn)
		if e.turn.Stop != "" {
			return turns, e.try()
		}
		context = Context(Context(e.turn.Context, e.turn.Tokens), e.turn.Observation)
	}
}

// following is the first record of a turn that continues the given context; nil when there is none. Where
// tokens are not kept every record does.
func following(events []event, index int, context uint64, kept bool) *event {
	for i, e := range events {
		if e.turn != nil && e.Turn == index && (!kept || e.turn.Context == Context(context, e.turn.Prompt)) {
			return &events[i]
		}
	}
	return nil
}

// attempts lists the attempts at the episode; ended is the one that ended it. The numbers on disk only tell
// attempts of one tenure apart.
func (s *story) attempts(episode Episode, ended try) []rollout.Attempt {
	var attempts []rollout.Attempt
	var tries []event
	places := map[try]int{}
	for _, e := range s.events {
		at, known := places[e.try()]
		if !known {
			at = len(attempts)
			places[e.try()] = at
			attempts = append(attempts, rollout.Attempt{
				Trajectory: episode.String(), Number: at + 1, Tenure: e.tenure, From: e.From, Discarded: e.Discarded,
			})
			tries = append(tries, e)
		}
		if e.failed != nil {
			attempts[at].Failure, attempts[at].Reason = e.failed.Kind, e.failed.Reason
		}
	}
	for i, e := range tries {
		switch {
		case e.try() == ended:
			attempts[i].Failure, attempts[i].Reason = "", ""
		case !e.alive:
			lose(attempts[i:i+1], loopGone)
		case i < len(attempts)-1 || ended != try{}:
			lose(attempts[i:i+1], takenOver)
		}
	}
	return attempts
}
