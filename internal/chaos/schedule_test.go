package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func plan(t *testing.T, o Options) []Fault {
	t.Helper()
	faults, err := Plan(o)
	if err != nil {
		t.Fatal(err)
	}
	return faults
}

func TestPlansRepeatByTheirSeed(t *testing.T) {
	o := Options{Faults: 50, Kinds: Kinds, Roles: Roles, Seed: 7}
	first := plan(t, o)
	if again := plan(t, o); !slices.Equal(again, first) {
		t.Error("the same seed gave another plan")
	}
	o.Seed = 8
	if other := plan(t, o); slices.Equal(other, first) {
		t.Error("another seed gave the same plan")
	}
}

func TestPlansHoldWhatTheyShould(t *testing.T) {
	for seed := range uint64(50) {
		for _, n := range []int{1, 5, 20, 100} {
			faults := plan(t, Options{Faults: n, Kinds: Kinds, Roles: Roles, Seed: seed})
			if len(faults) != n {
				t.Fatalf("seed %d: %d faults, want %d", seed, len(faults), n)
			}
			count, kills := map[Kind]int{}, map[Role]int{}
			for i, f := range faults {
				count[f.Kind]++
				if f.Kind == SIGKILL {
					kills[f.Role]++
				}
				if f.Number != i+1 || !slices.Contains(suits[f.Kind], f.Role) || f.Gap < 0 || f.Gap > 2*DefaultGap {
					t.Errorf("seed %d: impossible fault %+v", seed, f)
				}
				bounds, lasts := lasting[f.Kind]
				if lasts != (f.Lasts > 0) || lasts && (f.Lasts < bounds[0] || f.Lasts > bounds[1]) {
					t.Errorf("seed %d: fault %+v does not last within %v", seed, f, bounds)
				}
			}
			if float64(count[SIGKILL]) < killShare*float64(n) {
				t.Errorf("seed %d: %d of %d faults are kills", seed, count[SIGKILL], n)
			}
			if others := n - count[SIGKILL]; others >= len(Kinds)-1 && len(count) != len(Kinds) {
				t.Errorf("seed %d: of %d faults some kinds are missing: %v", seed, n, count)
			}
			if count[SIGKILL] >= len(Roles) && len(kills) != len(Roles) {
				t.Errorf("seed %d: %d kills strike only %v", seed, count[SIGKILL], kills)
			}
		}
	}
	if faults := plan(t, Options{Faults: 3, Kinds: Kinds, Roles: Roles, Gap: time.Nanosecond}); faults[2].Gap > 2 {
		t.Errorf("a gap of %v, at most 2ns asked", faults[2].Gap)
	}
}

func TestPlansOfFewKindsAndRoles(t *testing.T) {
	for _, f := range plan(t, Options{Faults: 10, Kinds: []Kind{SIGKILL}, Roles: []Role{Learner}}) {
		if f.Kind != SIGKILL || f.Role != Learner {
			t.Errorf("got %+v", f)
		}
	}
	for _, f := range plan(t, Options{Faults: 10, Kinds: []Kind{CorruptBlob}, Roles: []Role{Server}}) {
		if f.Kind != CorruptBlob || f.Role != Store {
			t.Errorf("got %+v", f)
		}
	}
	if _, err := Plan(Options{Faults: 1, Kinds: []Kind{HungTool}, Roles: []Role{Learner}}); err == nil || !strings.Contains(err.Error(), "hung_tool strikes [rollout] alone") {
		t.Errorf("got %v, want an error that names the fault and its role", err)
	}
	if _, err := Plan(Options{Kinds: Kinds, Roles: Roles}); err == nil {
		t.Error("a plan without faults is accepted")
	}
}

func TestParse(t *testing.T) {
	kinds, err := ParseKinds("sigkill, delay,sigkill")
	if err != nil || !slices.Equal(kinds, []Kind{SIGKILL, Delay}) {
		t.Errorf("got %v, %v", kinds, err)
	}
	if _, err := ParseKinds("sigkil"); err == nil || !strings.Contains(err.Error(), `unknown fault "sigkil"; known: sigkill, freeze`) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseRoles("store"); err == nil {
		t.Error("the store is accepted as a process")
	}
	if roles, err := ParseRoles("control,server"); err != nil || !slices.Equal(roles, []Role{Control, Server}) {
		t.Errorf("got %v, %v", roles, err)
	}
}
