package activity

import (
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/trainer/digests"
)

// TestDigestsOfOlderFoldersAreCompared holds a learner to manifests that name no formula, as older builds wrote them, and
// refuses those that name another.
func TestDigestsOfOlderFoldersAreCompared(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t)
	p.trainTo(3)
	s := p.a.sessions[p.run]
	manifest := p.manifest(3)
	if manifest.Digests != digests.Formula {
		t.Fatalf("step 3 names the formula %q", manifest.Digests)
	}
	if err := s.compare(manifest, "redo"); err != nil {
		t.Error(err)
	}
	older := manifest
	older.Digests = ""
	if err := s.compare(older, "redo"); err == nil || !strings.Contains(err.Error(), "the manifest records "+manifest.WeightsDigest) {
		t.Errorf("digests of one formula pass for those of another: %v", err)
	}
	var err error
	if older.WeightsDigest, older.OptimizerDigest, err = s.digests(""); err != nil {
		t.Fatal(err)
	}
	if older.WeightsDigest == manifest.WeightsDigest || older.OptimizerDigest == manifest.OptimizerDigest {
		t.Error("both formulas give the same")
	}
	if err := s.compare(older, "redo"); err != nil {
		t.Errorf("digests of an older folder: %v", err)
	}
	newer := manifest
	newer.Digests = "pieces/2"
	if err := s.compare(newer, "redo"); err == nil || !strings.Contains(err.Error(), "pieces/2") || !strings.Contains(err.Error(), digests.Formula) {
		t.Errorf("digests of an unknown formula: %v", err)
	}
}
