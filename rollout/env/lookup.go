package env

import (
	"context"
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

const lookupName = "lookup"

// LookupConfig configures [Lookup].
type LookupConfig struct {
	// MinHops and MaxHops bound the searches a question needs, 1 ≤ MinHops ≤ MaxHops ≤ 6.
	MinHops int `yaml:"min_hops"`
	MaxHops int `yaml:"max_hops"`
	// HopWeights are the relative frequencies of MinHops, MinHops+1, …, MaxHops; empty means equal.
	HopWeights []float64 `yaml:"hop_weights"`
	// Distractors is the number of facts a search returns beside the one it was asked for, 0 to 6:
	// by turns a fact of the same entity and a fact of the same relation.
	Distractors int `yaml:"distractors"`
	// BlankObservations replaces every result's text by " -", so that nothing can be learned from
	// the tools: a control experiment.
	BlankObservations bool `yaml:"blank_observations"`
	// Flaws are the faults of the demonstrations.
	Flaws Flaws `yaml:"flaws"`
}

// DefaultLookupConfig is 2 to 4 hops in equal parts and 2 distractors, with demonstrations of which
// about four in ten end right.
func DefaultLookupConfig() LookupConfig {
	return LookupConfig{
		MinHops: 2, MaxHops: 4, Distractors: 2,
		Flaws: Flaws{
			WrongOrder: 0.30, Distractor: 0.10, StopEarly: 0.20,
			ExtraCall: 0.05, Unparsable: 0.03, UnknownTool: 0.03,
		},
	}
}

// Validate returns an error that names the first field out of range.
func (c LookupConfig) Validate() error {
	const most = 6
	if c.MinHops < 1 || c.MaxHops < c.MinHops || c.MaxHops > most {
		return fmt.Errorf("min_hops is %d and max_hops is %d; they must satisfy 1 ≤ min_hops ≤ max_hops ≤ %d", c.MinHops, c.MaxHops, most)
	}
	if c.Distractors < 0 || c.Distractors > most {
		return fmt.Errorf("distractors is %d; it lies between 0 and %d", c.Distractors, most)
	}
	if n := c.MaxHops - c.MinHops + 1; len(c.HopWeights) != 0 && len(c.HopWeights) != n {
		return fmt.Errorf("hop_weights has %d entries; min_hops %d to max_hops %d needs %d, or none for equal weights", len(c.HopWeights), c.MinHops, c.MaxHops, n)
	}
	sum := 0.0
	for i, w := range c.HopWeights {
		if !(w >= 0 && w <= 1e9) {
			return fmt.Errorf("hop_weights[%d] is %v; a weight lies between 0 and 1e9", i, w)
		}
		sum += w
	}
	if len(c.HopWeights) != 0 && sum == 0 {
		return fmt.Errorf("hop_weights are all 0; at least one must be positive")
	}
	return c.Flaws.Validate()
}

// Build implements [Config].
func (c LookupConfig) Build() (Environment, error) { return NewLookup(c) }

// Lookup asks multi-hop questions over a generated knowledge base:
//
//	Who is the mentor of the rival of the friend of mira ?
//
// Every task has a knowledge base of its own that relates each of 64 entities by each of 8 relations
// to another entity. A fact (entity, relation, entity) belongs for ever to one split, one in five to
// the held-out one, and a knowledge base holds only facts of its split. The chain of a question
// visits no entity and uses no relation twice.
type Lookup struct {
	config LookupConfig
	facts  *factTable
}

// NewLookup returns the environment, or the error of [LookupConfig.Validate].
func NewLookup(config LookupConfig) (*Lookup, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("environment %s: %w", lookupName, err)
	}
	return &Lookup{config: config, facts: newFactTable()}, nil
}

// Name implements [Environment].
func (l *Lookup) Name() string { return lookupName }

var (
	searchSpec = tool.Spec{
		Name: "search",
		Doc:  "finds the entity that a relation of an entity leads to, among other facts",
		Params: []tool.Param{
			{Name: "entity", Doc: "whose relation is asked for"},
			{Name: "relation", Doc: "which relation"},
		},
	}
	neighborsSpec = tool.Spec{
		Name:   "neighbors",
		Doc:    "lists the entities related to an entity, without saying how",
		Params: []tool.Param{{Name: "entity", Doc: "whose relations are listed"}},
	}
)

// Tools implements [Environment].
func (l *Lookup) Tools() []tool.Spec { return []tool.Spec{searchSpec, neighborsSpec} }

// Task implements [Environment]. Split is [rollout.Train] or [rollout.HeldOut].
func (l *Lookup) Task(split rollout.Split, seed uint64, index int) rollout.Task {
	o := origin{split, seed, index}
	o.mustBeLegal()
	world, d := l.facts.world(o), o.draws("lookup question")
	hops := l.hops(d)
	for {
		if chain, ok := world.chain(d, hops); ok {
			return o.task(lookupName, chain.prompt(), chain.gold())
		}
	}
}

func (l *Lookup) hops(d *draws) int {
	if len(l.config.HopWeights) == 0 {
		return l.config.MinHops + d.below(l.config.MaxHops-l.config.MinHops+1)
	}
	return l.config.MinHops + d.weighted(l.config.HopWeights)
}

// chain is a question: entities[i+1] is relations[i] of entities[i].
type chain struct {
	entities  []int // len = hops + 1, distinct
	relations []int // len = hops, distinct
}

// chain draws a path of the world; false when the path comes back to an entity.
func (w world) chain(d *draws, hops int) (chain, bool) {
	relations := make([]int, len(relationNames))
	for r := range relations {
		relations[r] = r
	}
	c := chain{relations: shuffle(d, relations)[:hops]}
	entity := d.below(len(entityNames))
	var visited [entityCount]bool
	for hop := 0; ; hop++ {
		if visited[entity] {
			return chain{}, false
		}
		visited[entity] = true
		c.entities = append(c.entities, entity)
		if hop == hops {
			return c, true
		}
		entity = w.fact(entity, c.relations[hop])
	}
}

func (c chain) prompt() string {
	var b strings.Builder
	b.WriteString(" Who is")
	for i := len(c.relations) - 1; i >= 0; i-- {
		b.WriteString(" the " + relationNames[c.relations[i]] + " of")
	}
	b.WriteString(" " + entityNames[c.entities[0]] + " ?")
	return b.String()
}

func (c chain) gold() rollout.Gold {
	gold := rollout.Gold{Answer: entityNames[c.entities[len(c.entities)-1]]}
	for i, relation := range c.relations {
		gold.Calls = append(gold.Calls, rollout.GoldCall{
			Name: searchSpec.Name,
			Args: rollout.StringArgs("entity", entityNames[c.entities[i]], "relation", relationNames[relation]),
		})
	}
	return gold
}

// Verify implements [Environment]: 1 for the gold entity, else 0.
func (l *Lookup) Verify(task rollout.Task, answer string) float64 { return verify(task, answer) }

// Continuation implements [Environment]: what an episode remembers is the calls that went well.
func (l *Lookup) Continuation() Continuation { return Restores }

// Open implements [Environment].
func (l *Lookup) Open(task rollout.Task) (Episode, error) {
	o, err := originOf(lookupName, task)
	if err != nil {
		return nil, err
	}
	return &lookupEpisode{
		memory: memory{blank: l.config.BlankObservations},
		world:  l.facts.world(o), distractors: l.config.Distractors,
	}, nil
}

type lookupEpisode struct {
	memory
	world       world
	distractors int
}

// Call implements [Episode].
func (e *lookupEpisode) Call(ctx context.Context, call rollout.Call) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	spec := neighborsSpec
	if call.Name == searchSpec.Name {
		spec = searchSpec
	}
	return e.reveal(call, spec, e.run(call)), nil
}

func (e *lookupEpisode) run(call rollout.Call) Result {
	name, _ := call.Args.StringArg("entity")
	entity, known := entityIndex[name]
	if !known {
		return failed("no entity " + tool.Excerpt(name))
	}
	if call.Name == neighborsSpec.Name {
		return succeeded(e.world.neighbors(entity))
	}
	name, _ = call.Args.StringArg("relation")
	relation, known := relationIndex[name]
	if !known {
		return failed("no relation " + tool.Excerpt(name) + "; relations: " + strings.Join(relationNames, ", "))
	}
	return succeeded(factsText(e.world.search(entity, relation, e.distractors), entity, relation))
}
